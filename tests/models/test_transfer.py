"""Bytes from an address, as the Inception file comes: faults that no model can show, and what that download must withstand."""

from __future__ import annotations

import fcntl
import hashlib
from pathlib import Path
from typing import Any

import pytest

import hub_faults as faults
from tenth.cli.main import main
from tenth.core.errors import ModelError
from tenth.evaluation.extractors import inception_weights as inception_file
from tenth.evaluation.extractors.inception_weights import download
from tenth.models.hub import transfer
from tenth.models.hub.transfer import TransferError, download_to, redact_url
from toy_hub import Hub, run_hub

Output = pytest.CaptureFixture[str]
CONTENT = bytes(range(256)) * 100


@pytest.fixture
def standard(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTENT is the standard Inception file."""
    monkeypatch.setattr(inception_file, "BYTES", len(CONTENT))
    monkeypatch.setattr(inception_file, "SHA256", hashlib.sha256(CONTENT).hexdigest())


def address_of(hub: Hub) -> str:
    return f"{hub.url}/a/b/c/d/inception.pth"


@pytest.mark.usefixtures("standard")
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.endless(), "the answer has more bytes, and the file 25,600"),
        (faults.packed(len(CONTENT)), "packed"),
        (faults.answer(404), "the answer is 404 Not Found"),
        (faults.answer(416), "the answer is 416"),
        (faults.answer(302, Location="ftp://127.0.0.1/x"), "protocol"),
        (faults.answer(302, Location="file:///etc/passwd"), "protocol"),
        (faults.raw(b"\0"), "did not|illegal|protocol|disconnected|line"),
        (faults.drip(b"HTTP/1.1 200 OK\r\n\r\n"), "fewer than"),
        (faults.drip(b"HTTP/1.1 200 OK\r\na: "), "fewer than"),
    ],
)
def test_the_inception_file_of_a_server_that_lies(
    fault: faults.Fault, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "SLOW_SECONDS", 0.3)
    with run_hub(Hub(handlers={"inception.pth": fault})) as hub:
        with pytest.raises(ModelError, match=said) as raised:
            download(address_of(hub), tmp_path / "inception.pth")
        assert len(str(raised.value).splitlines()) == 1
        assert all(path.stat().st_size < len(CONTENT) for path in tmp_path.iterdir())
        hub.handlers["inception.pth"] = faults.answer(200, CONTENT)
        assert download(address_of(hub), tmp_path / "inception.pth").read_bytes() == CONTENT


@pytest.mark.usefixtures("standard")
def test_the_inception_file_begins_again_where_a_server_has_no_rest(tmp_path: Path) -> None:
    (tmp_path / "inception.pth.part").write_bytes(CONTENT[:100])
    with run_hub(Hub(handlers={"inception.pth": faults.in_turn(faults.answer(416), faults.answer(200, CONTENT))})) as hub:
        assert download(address_of(hub), tmp_path / "inception.pth").read_bytes() == CONTENT


@pytest.mark.usefixtures("standard")
def test_the_inception_file_comes_with_a_password_that_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with run_hub(Hub(handlers={"inception.pth": faults.answer(200, CONTENT)})) as hub:
        download(address_of(hub).replace("//", "//localhost:secret@"), tmp_path / "inception.pth")
        assert hub.headers[0][1]["Authorization"] == "Basic bG9jYWxob3N0OnNlY3JldA=="
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    for address in ADDRESSES:
        assert main(["evaluate", str(tmp_path), "--held-out", str(tmp_path), "--inception", address]) == 1
        said = capsys.readouterr()
        assert "secret" not in said.out + said.err
        assert len(said.err.splitlines()) == 1


ADDRESSES = (
    *(
        "http://localhost:secret@127.0.0.1:9/x",
        "http://127.0.0.1:9/x?key=secret",
        "http://localhost:secret@[/x",
        "http://localhost:sec ret@[/x",
    ),
    *(
        "http://localhost:se/secret@127.0.0.1:9/x",
        "ftp://localhost:secret@127.0.0.1/x",
        "https:///secret@",
        "http://localhost:secret@127.0.0.1:x/",
    ),
    *(
        "http://localhost:secret@127.0.0.1:99999/x",
        "://localhost:secret@127.0.0.1/x",
        "s3://localhost:secret@127.0.0.1",
        "http://localhost:secret@\0/x",
    ),
)


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert redact_url("https://localhost:se@cret@hub.example/a/b.pth?key=secret") == "https://hub.example/a/b.pth"


def test_a_redirect_does_not_leave_encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answered(request: Any) -> Any:
        asked.append(str(request.url))
        return transfer.httpx.Response(302, headers={"Location": "http://hub.example/x"})

    client = transfer.httpx.Client(transport=transfer.httpx.MockTransport(answered))
    monkeypatch.setattr(transfer, "_client", lambda: client)
    with pytest.raises(TransferError, match="not encrypted"):
        download_to("https://hub.example/x", 5, tmp_path / "part")
    assert asked == ["https://hub.example/x"]
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time_receives_a_file(tmp_path: Path) -> None:
    part = tmp_path / "part"
    with part.open("wb") as other, run_hub(Hub(handlers={"inception.pth": faults.answer(200, CONTENT)})) as hub:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TransferError, match="another process is receiving it"):
            download_to(address_of(hub), len(CONTENT), part)
        fcntl.flock(other, fcntl.LOCK_UN)
        download_to(address_of(hub), len(CONTENT), part)
    assert part.read_bytes() == CONTENT


def test_a_proxy_that_is_none_is_said_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "secret://localhost:secret@127.0.0.1")
    with pytest.raises(TransferError, match=r"proxy that is none$"):
        download_to("http://hub.example/x", 5, tmp_path / "part")


def test_certificates_that_cannot_be_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    transfer._certificates.cache_clear()
    with pytest.raises(TransferError, match="certificates that the environment names cannot be read"):
        download_to("http://127.0.0.1:9/x", 5, tmp_path / "part")
    monkeypatch.delenv("SSL_CERT_FILE")
    transfer._certificates.cache_clear()
