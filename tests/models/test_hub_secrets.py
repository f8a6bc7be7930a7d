"""Passwords and tokens go to the hub that they are for, and into no message, progress, record or other host."""

from __future__ import annotations

from pathlib import Path

import pytest

import hub_faults as faults
from tenth.cli.main import main
from toy_hub import SD15, UNET, Hub, download_model, run_hub

Output = pytest.CaptureFixture[str]


def test_another_host_gets_neither_token_nor_password(sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = sd15.newest(SD15)[UNET]
    for variable, value in (("HF_TOKEN", "hf_secret"), ("HF_ENDPOINT", sd15.url.replace("//", "//localhost:secret@"))):
        monkeypatch.setenv(variable, value)
        with run_hub(Hub(handlers={UNET: faults.answer(200, content)})) as other:
            sd15.handlers[UNET] = faults.answer(302, Location=f"{other.url}/a/b/c/d/{UNET}")
            download_model("sd15", update=True)
            for folder in models_here.glob("sd15"):
                (folder / UNET).unlink()
            download_model("sd15")
        assert all("Authorization" in headers for path, headers in sd15.headers if "api" in path)
        assert len(other.headers) >= 1
        assert not any("Authorization" in headers for _, headers in other.headers)


FAULTS: dict[str, faults.Fault | None] = {
    "none": None,
    "page": faults.listing(b"<html>"),
    "redirects": lambda to: faults.answer(302, Location=f"{to.hub.url.replace('//', '//localhost:secret@')}{to.path}")(to),
    "nobody": None,
} | {str(status): faults.answer(status) for status in (401, 403, 404, 429, 500)}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_password_in_the_address_is_used_and_never_shown(
    fault: str, sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output, caplog: pytest.LogCaptureFixture
) -> None:
    url = "http://127.0.0.1:9" if fault == "nobody" else sd15.url
    monkeypatch.setenv("HF_TOKEN", "hf_token")  # the address says who asks, and this would be a second one
    monkeypatch.setenv("HF_ENDPOINT", url.replace("//", "//localhost:s%65cret@"))
    if found := FAULTS[fault]:
        sd15.handlers[SD15] = found
    assert main(["models", "download", "sd15"]) == (0 if fault == "none" else 1)
    said = capsys.readouterr()
    files = [path.read_bytes() for path in models_here.rglob("*") if path.is_file()]
    for secret in ("hf_token", "s%65cret", "secret", "bG9jYWxob3N0OnNlY3JldA=="):
        assert secret not in said.out + said.err + caplog.text
        assert not any(secret.encode() in content for content in files)
    if fault != "nobody":
        assert sd15.headers[0][1]["Authorization"] == "Basic bG9jYWxob3N0OnNlY3JldA=="


@pytest.mark.parametrize(
    "address",
    [
        *(
            "me:secret@127.0.0.1",
            "ftp://localhost:secret@127.0.0.1",
            "http://localhost:secret@",
            "http://localhost:secret@[",
            "http://localhost:sec ret@[",
        ),
        *(
            "http://localhost:se/secret@127.0.0.1:9",
            "http://localhost:secret@127.0.0.1:x",
            "http://localhost:secret@127.0.0.1:99999",
            "secret",
        ),
        *(
            "http://localhost:secret@127.0.0.1:0",
            "http://localhost:secret@\u2100.x",
            "http://localhost:secret@127.0.0.1:9/a b",
            "://secret",
        ),
    ],
)
def test_an_address_that_is_none_is_said_without_its_password(
    address: str, models_here: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    assert main(["models", "download", "sd15"]) == 1
    said = capsys.readouterr().err
    assert "HF_ENDPOINT is no address of a hub; " in said or "did not come" in said
    assert "secret" not in said
    assert sum(line.startswith("tenth: ") for line in said.splitlines()) == 1


@pytest.mark.parametrize("token", ["hf_sec\x01ret", "hf_sécret", "hf_secret \x7f"])
def test_a_token_that_cannot_be_sent_is_not_shown(
    token: str, sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["models", "download", "sd15"]) == 1
    said = capsys.readouterr().err
    assert "what is to be sent as authorization holds a character that cannot be sent" in said
    assert "hf_" not in said
