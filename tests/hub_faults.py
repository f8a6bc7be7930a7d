"""What a lying or broken hub answers: each is put in the place of one answer of the toy hub's."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toy_hub import SD15, Hub, HubRequestHandler

Fault = Callable[[HubRequestHandler], None]
Table = dict[str, Any]
SHA1, SHA256 = "a" * 40, "a" * 64
# What a list or a lock may have where a sha1 or a sha256 belongs.
NO_DIGESTS = (
    *("../../x", "/tmp/x", "..", "", "x", SHA1[:-1], SHA1 + "a", SHA256[:-1], SHA1.upper(), "g" * 40, SHA1[:-1] + "/"),
    *(SHA1 + "\n", SHA1[:-1] + "\u0661", 5, True, [SHA1], {"a": 1}),
)
MOST = 256 << 20  # where an endless answer ends all the same, so that a test of who reads it all fails and does not hang


def answer(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> Fault:
    """One answer. length: what it says of its body's instead of the truth; -1: nothing: it ends with the connection."""

    def send(to: HubRequestHandler) -> None:
        to.send_response(status)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        if length != -1:
            to.send_header("Content-Length", str(len(body) if length is None else length))
        to.end_headers()
        to.wfile.write(body)

    return send


def raw(content: bytes) -> Fault:
    """These bytes in place of an answer, whatever they are."""
    return lambda to: to.wfile.write(content) and None


def listing(table: Any) -> Fault:
    return answer(200, table if isinstance(table, bytes) else json.dumps(table).encode(), Content_Type="application/json")


def endless(piece: bytes = b"x" * (1 << 20), sent: list[int] | None = None, **headers: str) -> Fault:
    """A body without an end. sent: grows by each piece's length."""

    def send(to: HubRequestHandler) -> None:
        to.send_response(200)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        for _ in range(MOST // len(piece)):
            to.wfile.write(piece)
            if sent is not None:
                sent.append(len(piece))

    return send


def packed(size: int) -> Fault:
    """An answer of which every byte is packed a thousandfold."""
    return answer(200, gzip.compress(bytes(size)), Content_Encoding="gzip")


def drip(before: bytes) -> Fault:
    """A beginning, then a byte now and then, until the other side has had enough."""

    def send(to: HubRequestHandler) -> None:
        to.wfile.write(before)
        for _ in range(5_000):
            to.wfile.write(b"x")
            to.wfile.flush()
            time.sleep(0.01)

    return send


def in_turn(*faults: Fault) -> Fault:
    """Each once, then the last for good."""
    left = list(faults)

    def send(to: HubRequestHandler) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(to)

    return send


def ranged(content: bytes, other: Fault) -> Fault:
    """The file to who asks for its beginning, breaking off half-way, and another answer to who asks for the rest."""

    def send(to: HubRequestHandler) -> None:
        if "Range" in to.headers:
            other(to)
        else:
            answer(200, content[: len(content) // 2], length=len(content))(to)

    return send


def table_of(hub: Hub, repository: str = SD15) -> Table:
    """What a hub that tells the truth lists."""
    table = hub.listing(repository, "main")
    assert table is not None
    return table


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
