"""The one pickle that is read: never before its hash matched, and only its tensors. Weights here are a few bytes."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from tenth.core.errors import ModelError
from tenth.evaluation.extractors import inception_weights as module
from tenth.evaluation.extractors.inception_weights import (
    BYTES,
    SHA256,
    download,
    load_inception,
    random_inception,
    random_weights,
    read_weights,
)


def saved(tensor: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save({"fc.weight": tensor}, file)
    return file.getvalue()


CONTENT = saved(torch.arange(6.0))


@pytest.fixture
def standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTENT is the standard file."""
    expect(monkeypatch, CONTENT)


def expect(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(module, "BYTES", len(content))
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(content).hexdigest())


def write(folder: Path, content: bytes) -> Path:
    path = folder / "inception.pth"
    path.write_bytes(content)
    return path


class Trap:
    """Unpickled, it leaves a file: what weights of a stranger could do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.usefixtures("standard")
def test_the_standard_file_is_read(tmp_path: Path) -> None:
    assert torch.equal(read_weights(write(tmp_path, CONTENT))["fc.weight"], torch.arange(6.0))


@pytest.mark.parametrize("content", [b"", CONTENT, b"\x80\x04]"], ids=["empty", "another", "pickle"])
def test_a_file_of_another_size_is_named_with_its_size_and_what_is_needed(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match=f"inception.pth has {len(content):,} bytes") as raised:
        load_inception(str(write(tmp_path, content)))
    assert f"{BYTES:,} bytes and sha256 {SHA256}" in str(raised.value)


@pytest.mark.usefixtures("standard")
def test_a_file_of_another_hash_is_named_with_its_hash(tmp_path: Path) -> None:
    changed = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(
        ModelError, match=f"has .* bytes and the sha256 {hashlib.sha256(changed).hexdigest()}; .* bytes and sha256"
    ):
        read_weights(write(tmp_path, changed))


def test_a_missing_file(tmp_path: Path) -> None:
    for path, found in ((tmp_path / "gone.pth", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(ModelError, match=found):
            load_inception(str(path))


def test_code_in_a_pickle_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = pickle.dumps(Trap(tmp_path / "sprung"), protocol=2)
    with pytest.raises(ModelError):
        read_weights(write(tmp_path, trap))
    expect(monkeypatch, trap)  # even if its hash were the right one
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        read_weights(write(tmp_path, trap))
    assert not (tmp_path / "sprung").exists()


# Random weights


def test_random_weights_are_the_seeds_and_say_that_they_mean_nothing() -> None:
    network, weights, again = random_inception("1"), random_weights(1), random_weights(1)
    assert re.fullmatch(r"inception-random-1@[0-9a-f]{16}", network.name)
    assert "random:1" in network.disclaimer
    assert "mean nothing" in network.disclaimer
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert not torch.equal(weights["fc.weight"], random_weights(2)["fc.weight"])
    assert len(weights) == 94 * 6 + 2
    assert weights["fc.weight"].shape == (1008, 2048)


@pytest.mark.parametrize(
    "source", ["random:", "random:x", "random:-1", "random:1.5", "random:9223372036854775808", "random:" + "9" * 5000]
)
def test_a_seed_is_a_whole_number(source: str) -> None:
    with pytest.raises(ModelError, match="a whole number from 0 to 9223372036854775807 is needed"):
        load_inception(source)


# Download, from a server on this machine


@dataclass
class Site:
    """What the server sends, how much of it before it hangs up for good, whether it knows ranges, and what it was asked for."""

    content: bytes
    most: int | None = None
    ranges: bool = True
    address: str = ""
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(CONTENT)

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers["Range"]
            site.asked.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges else 0
            content = site.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(site.content) - 1}/{len(site.content)}")
            self.end_headers()
            self.wfile.write(content[: site.most])
            site.most = site.most and 0

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_port}/inception.pth"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.usefixtures("standard")
def test_a_download_is_kept_whole_and_asked_for_once(tmp_path: Path, site: Site) -> None:
    path = tmp_path / "store" / "inception.pth"
    for _ in range(2):
        assert download(site.address, path) == path
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["inception.pth"]
    assert site.asked == [None]


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_says_so_and_goes_on(tmp_path: Path, site: Site, ranges: bool) -> None:
    site.most, site.ranges = 100, ranges
    with pytest.raises(ModelError, match=f"gave 100 bytes .*the Inception file has {len(CONTENT):,}.*go on"):
        download(site.address, tmp_path / "inception.pth")
    assert not (tmp_path / "inception.pth").exists()
    site.most = None
    assert download(site.address, tmp_path / "inception.pth").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=100-", "bytes=100-"]


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize("content", [CONTENT[::-1], CONTENT + b"x", CONTENT * 50], ids=["hash", "one more", "endless"])
def test_another_file_is_not_kept(tmp_path: Path, site: Site, content: bytes) -> None:
    site.content = content
    with pytest.raises(ModelError, match="the Inception file"):
        download(site.address, tmp_path / "inception.pth")
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gave 0 bytes"):
        download("http://127.0.0.1:9/inception.pth", tmp_path / "inception.pth")


@pytest.mark.usefixtures("standard")
def test_an_address_is_downloaded_into_the_store(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module, "Inception", lambda name, weights: (name, weights))
    name, weights = load_inception(site.address)  # type: ignore[misc]
    assert (tmp_path / module.FILE).read_bytes() == CONTENT
    assert name.startswith("inception-2015-12-05@")
    np.testing.assert_array_equal(weights["fc.weight"], np.arange(6.0))
