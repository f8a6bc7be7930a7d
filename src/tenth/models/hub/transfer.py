"""An address -> its bytes: never more than agreed, in a time that ends, gone on with where they stopped.

Who answers may lie, break off, or never come to an end. Proxies and certificates hold as httpx takes them from the environment.
A name and a password in an address go into a header, so that no message can show them.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.client import responses
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from huggingface_hub.errors import HfHubHTTPError

from tenth.core.files.writing import try_lock

httpx: Any = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])  # or httpx2: what huggingface_hub uses

ANSWER_SECONDS = 30.0  # longest wait for a connection, and for the next bytes
SLOW_SECONDS, SLOW_BYTES = 60.0, 60_000  # an answer that brings fewer bytes than this in that time is given up
MAX_TRIES, MIN_PROGRESS_BYTES = 5, 1 << 20  # so many answers in a row may break off before they have brought this many bytes
MAX_REDIRECTS = 10
MAX_SHOWN_CHARS = 200  # most characters of a server's text in a message
HTTP_OK, HTTP_PARTIAL_CONTENT, HTTP_RANGE_NOT_SATISFIABLE = 200, 206, 416  # of HTTP's statuses


class TransferError(Exception):
    """What was asked for did not come.

    status, code, message: the answer's HTTP status and two headers of a hub's, if any came.
    """

    def __init__(self, text: str, status: int = 0, code: str = "", message: str = "") -> None:
        super().__init__(text)
        self.status, self.code, self.message = status, code, message


def download_bytes(url: str, max_bytes: int, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole answer of at most `max_bytes` bytes. Raises TransferError."""
    content = bytearray()
    with _open_response(url, headers or {}) as answer:
        for piece in answer.chunks:
            content += piece
            if len(content) > max_bytes:
                raise TransferError(f"the answer has more than {max_bytes:,} bytes")
    return bytes(content)


def download_to(
    url: str,
    size: int,
    partial_path: Path,
    headers: Mapping[str, str] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> None:
    """A file of `size` bytes at `partial_path`, on the disk: what is there already is kept, and only the rest asked for.

    progress: told how many bytes are there. Raises TransferError if the rest does not come, and keeps what came; but nothing
    where more is sent than belongs to the file. Raises OSError if the disk refuses.
    """
    with _open_partial(partial_path, size) as file:
        tries, restarted = 0, False
        while (start := file.seek(0, os.SEEK_END)) < size:
            progress(start)
            try:
                _append(url, size, file, headers or {}, progress)
            except TransferError as problem:
                gained = file.tell() - start
                tries = 0 if gained >= MIN_PROGRESS_BYTES else tries + 1
                if problem.status == HTTP_RANGE_NOT_SATISFIABLE and start and not restarted:  # the rest cannot be had alone
                    file.truncate(0)
                    restarted = True
                elif gained <= 0 or tries == MAX_TRIES:
                    raise


def redact_url(url: str) -> str:
    """An address as it may stand in a message: nothing before an @, which may be a password, or behind a question mark."""
    scheme, _, rest = url.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def split_credentials(url: str) -> tuple[str, dict[str, str]]:
    """An address of http or https without a name and a password, and the header that holds these. Raises TransferError."""
    try:
        parts = urlsplit(url)
        name, found, place = parts.netloc.rpartition("@")
        user, _, password = (unquote(each) for each in name.partition(":"))
        clean = parts._replace(netloc=place).geturl()
        if parts.scheme not in ("http", "https") or not httpx.URL(clean).host or parts.port == 0:
            raise ValueError
    except (ValueError, httpx.InvalidURL):  # whose texts may show the password
        raise TransferError("it is no address of http or https") from None
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    return clean, {"Authorization": f"Basic {secret}"} if found else {}


def _append(url: str, size: int, file: IO[bytes], headers: Mapping[str, str], progress: Callable[[int], None]) -> None:
    """What a file lacks at its end. Raises TransferError, with status 416 if it can only be had from its beginning."""
    start = file.tell()
    with _open_response(url, {**headers, **({"Range": f"bytes={start}-"} if start else {})}) as answer:
        if answer.status == HTTP_PARTIAL_CONTENT and not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise TransferError("other bytes came than were asked for", HTTP_RANGE_NOT_SATISFIABLE)
        restart, length = answer.status == HTTP_OK, answer.headers.get("Content-Length", "")
        start = 0 if restart else start
        if length.isdecimal() and start + int(length[:20]) != size:
            _reject_size(file, size, f"{start + int(length[:20]):,}")
        for piece in answer.chunks:
            if restart:  # only now: an answer may bring nothing
                file.seek(0)
                file.truncate()
                restart = False
            if file.tell() + len(piece) > size:
                _reject_size(file, size, "more")
            file.write(piece)
            progress(file.tell())
    if file.tell() < size:
        raise TransferError(f"it ended after {file.tell():,} of {size:,} bytes")


def _reject_size(file: IO[bytes], size: int, found: str) -> None:
    file.seek(0)
    file.truncate()
    raise TransferError(f"the answer has {found} bytes, and the file {size:,}")


@contextmanager
def _open_partial(partial_path: Path, size: int) -> Iterator[IO[bytes]]:
    """The file that grows, for this process alone, and on the disk in the end. An empty one is not left."""
    if partial_path.is_symlink() or not partial_path.is_file() or partial_path.stat().st_size > size:
        partial_path.unlink(missing_ok=True)
    try:
        with partial_path.open("ab") as file:
            if not try_lock(file.fileno()):
                raise TransferError("another process is receiving it")
            try:
                yield file
            finally:
                file.flush()
                os.fsync(file.fileno())
                if size and not file.tell():
                    partial_path.unlink(missing_ok=True)
    except OSError as problem:
        problem.filename = problem.filename or str(partial_path)  # a full disk does not say where
        raise


@contextmanager
def _open_response(url: str, headers: Mapping[str, str]) -> Iterator[_Response]:
    """A good answer, redirects followed, its body not read. Raises TransferError."""
    clean, secret = split_credentials(url)
    # Of one name, however it is spelt, the last counts: what the address says of who asks goes instead of a token. A packed
    # answer has no size, and no range to go on with.
    request_headers = {
        name.lower(): value for name, value in [*headers.items(), *secret.items(), ("accept-encoding", "identity")]
    }
    for name, value in request_headers.items():
        if not (value.isascii() and value.isprintable()):
            raise TransferError(f"what is to be sent as {name} holds a character that cannot be sent")
    with _client() as client, _watch_stalls(client) as watch:
        request = client.build_request("GET", clean, headers=request_headers)
        for _ in range(MAX_REDIRECTS):
            with watch.explain_errors():
                response = client.send(request, stream=True)
            with closing(response):
                if not response.has_redirect_location:
                    _check_response(response)
                    yield _Response(response.status_code, response.headers, watch.chunks(response))
                    return
                before, request = request, response.next_request
            if request is None or (before.url.scheme, request.url.scheme) == ("https", "http"):
                raise TransferError("it is redirected to no address, or to one that is not encrypted")
        raise TransferError(f"it is redirected more than {MAX_REDIRECTS} times")


@dataclass(frozen=True)
class _Response:
    status: int
    headers: Mapping[str, str]
    chunks: Iterator[bytes]


@dataclass
class _StallWatch:
    """How much came, and whether that was too little."""

    client: Any
    received: int = 0
    slow: bool = False
    done: Event = field(default_factory=Event)

    def run(self) -> None:
        before = 0
        while not self.done.wait(SLOW_SECONDS):
            if self.received - before < SLOW_BYTES:
                self.slow = True
                self.client.close()
                return
            before = self.received

    def chunks(self, response: Any) -> Iterator[bytes]:
        with self.explain_errors():
            for piece in response.iter_raw():
                self.received += len(piece)
                yield piece

    @contextmanager
    def explain_errors(self) -> Iterator[None]:
        """Whatever a library raises as TransferError, by the first line of its text."""
        try:
            yield
        except (httpx.HTTPError, httpx.InvalidURL, OSError, RuntimeError, ValueError) as problem:
            said = (str(problem).strip().splitlines() or [type(problem).__name__])[0][:MAX_SHOWN_CHARS]
            slow = f"fewer than {SLOW_BYTES:,} bytes came in {SLOW_SECONDS:.0f} seconds"
            raise TransferError(slow if self.slow else said) from problem


@contextmanager
def _watch_stalls(client: Any) -> Iterator[_StallWatch]:
    """A thread beside the block, which closes the client when too little comes: headers and body alike may drip for ever."""
    watch = _StallWatch(client)
    Thread(target=watch.run, daemon=True).start()
    try:
        yield watch
    finally:
        watch.done.set()


def _client() -> Any:
    try:
        certificates = _certificates()
    except OSError as problem:
        raise TransferError(f"the certificates that the environment names cannot be read ({problem.strerror})") from problem
    try:
        return httpx.Client(follow_redirects=False, timeout=ANSWER_SECONDS, verify=certificates)
    except (ValueError, httpx.InvalidURL):  # which may show the password of a proxy
        raise TransferError("the environment names a proxy that is none") from None


@cache
def _certificates() -> Any:
    return httpx.create_ssl_context()


def _check_response(response: Any) -> None:
    status, packed = response.status_code, response.headers.get("Content-Encoding", "identity")
    if status not in (HTTP_OK, HTTP_PARTIAL_CONTENT):
        code, said = (response.headers.get(f"X-Error-{name}", "")[:MAX_SHOWN_CHARS] for name in ("Code", "Message"))
        raise TransferError(f"the answer is {status} {responses.get(status, '')}".rstrip(), status, code, said)
    if packed != "identity":
        raise TransferError(f"the answer is packed ({packed[:MAX_SHOWN_CHARS]}), and plain bytes were asked for")
