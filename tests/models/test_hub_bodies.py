"""Files of a hub that lies or breaks: nothing beyond what was listed is kept, and nothing is waited for without an end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import hub_faults as faults
from hub_faults import table_of
from tenth.core.errors import ModelError
from tenth.models.hub import transfer
from tenth.models.registry import load_model
from toy_hub import SD15, UNET, Hub, download_model


def kept(folder: Path, listed: int) -> None:
    """No file is larger than the one that was listed."""
    sizes = {path: path.stat().st_size for path in folder.rglob("*.part")}
    assert all(size <= listed for size in sizes.values()), sizes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.endless(), r"has more bytes, and the file 825,344"),
        (faults.endless(Transfer_Encoding="identity"), r"has more bytes|Transfer-Encoding"),
        (faults.packed(64 << 20), r"is packed \(gzip\), and plain bytes were asked for"),
        (faults.packed(10), "is packed"),
        (faults.answer(200, b"x" * 20_000_000), r"has 20,000,000 bytes, and the file 825,344"),
        (faults.answer(200, b"x" * 20_000_000, length=-1), "has more bytes, and the file 825,344"),
        (faults.answer(206, b"x" * 10), "other bytes came than were asked for"),
        (faults.answer(204), "the answer is 204 No Content"),
        (faults.answer(304), "the answer is 304"),
        (faults.answer(500, b"<html>" * 1000), "the answer is 500 Internal Server Error"),
        (faults.answer(429, Retry_After="100000", RateLimit='"api";r=0;t=100000'), "the answer is 429 Too Many Requests"),
        (faults.answer(416), "the answer is 416"),
        (faults.answer(302, Location="ftp://127.0.0.1/x"), "did not come"),
        (faults.answer(302, Location="file:///etc/passwd"), "did not come"),
        (faults.answer(302, Location="http://["), "did not come"),
        (faults.answer(302, Location=""), "did not come"),
        (faults.answer(302, Location="x" * 30_000), "did not come|no longer has"),
        (faults.raw(b""), "did not come"),
        (faults.raw(b"\0\1\2"), "did not come"),
        (faults.raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000), "did not come"),
        (faults.raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), "did not come"),
        (faults.raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n"), "did not come"),
        (faults.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"), "did not come"),
        (faults.raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100 + b"\r\n"), "did not come"),
    ],
)
def test_a_body_that_is_not_the_listed_one_is_not_kept(
    fault: faults.Fault, said: str, sd15: Hub, models_here: Path, tmp_path: Path
) -> None:
    listed = len(sd15.newest(SD15)[UNET])
    sd15.handlers[UNET] = fault
    with pytest.raises(ModelError, match=said) as raised:
        download_model("sd15")
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    kept(tmp_path, listed)
    assert not (models_here / "sd15").exists()
    del sd15.handlers[UNET]
    download_model("sd15")
    assert load_model("sd15").name.startswith("sd15@")


def test_an_error_without_an_end_is_not_read_to_it(sd15: Hub, models_here: Path) -> None:
    sent: list[int] = []

    def failing(to: Any) -> None:
        to.send_response(404)
        to.send_header("X-Error-Code", "EntryNotFound")
        to.end_headers()
        for _ in range(faults.MOST >> 20):
            to.wfile.write(b"x" * (1 << 20))
            sent.append(1 << 20)

    sd15.handlers[UNET] = failing
    with pytest.raises(ModelError, match=f"the hub no longer has {UNET}"):
        download_model("sd15")
    assert sum(sent) < 64 << 20


@pytest.mark.parametrize(
    "rest",
    [
        faults.answer(416, Content_Range="bytes */5"),
        faults.answer(206, b"y" * 30_000, Content_Range="bytes 0-29999/66000"),
        faults.answer(206, b"y" * 30_000),
    ],
    ids=["416", "another range", "no range"],
)
def test_where_the_rest_cannot_be_had_the_file_begins_again(rest: faults.Fault, sd15: Hub, models_here: Path) -> None:
    content, asked = sd15.newest(SD15)[UNET], []

    def whole(to: Any) -> None:
        asked.append(to.headers["Range"])
        if len(asked) == 3:
            faults.answer(200, content)(to)
        else:
            faults.ranged(content, rest)(to)

    sd15.handlers[UNET] = whole
    download_model("sd15")
    assert [each is None for each in asked if each is None or each.startswith("bytes=")] == [True, False, True]
    assert (models_here / "sd15" / UNET).read_bytes() == content


def test_a_part_of_another_run_that_the_hub_has_no_rest_of_begins_again(sd15: Hub, models_here: Path) -> None:
    """As after a mirror has changed: what a stopped command left is longer than what is there now."""
    content = sd15.newest(SD15)[UNET]
    sd15.handlers[UNET] = faults.in_turn(faults.answer(200, content[:30_000], length=len(content)), faults.raw(b""))
    with pytest.raises(ModelError, match="Run the same command to go on where it stopped"):
        download_model("sd15")
    assert [path.stat().st_size for path in models_here.rglob("*.part")] == [30_000]
    sd15.handlers[UNET] = faults.in_turn(faults.answer(416), faults.answer(200, content))
    download_model("sd15")
    assert (models_here / "sd15" / UNET).read_bytes() == content


def test_a_file_that_never_gets_whole_is_given_up(sd15: Hub, models_here: Path) -> None:
    content, asked = sd15.newest(SD15)[UNET], []

    def one_byte(to: Any) -> None:
        start = int((to.headers["Range"] or "bytes=0-")[6:-1])
        asked.append(start)
        there = {"Content_Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        faults.answer(206 if start else 200, content[start : start + 1], length=len(content) - start, **there)(to)

    sd15.handlers[UNET] = one_byte
    with pytest.raises(ModelError, match="Run the same command to go on where it stopped"):
        download_model("sd15")
    assert 1 < len(asked) < 20
    kept(models_here, len(content))


@pytest.mark.slow
@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\na: ", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["nothing", "header", "body"]
)
@pytest.mark.parametrize("of", [SD15, UNET], ids=["list", "file"])
def test_what_drips_is_given_up(of: str, begun: bytes, sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SLOW_SECONDS", 0.5)
    sd15.handlers[of] = faults.drip(begun)
    with pytest.raises(ModelError, match=r"did not come \((fewer than [\d,]+ bytes came in|.*line)"):
        download_model("sd15")
    assert not (models_here / "sd15").exists()


def test_a_hub_that_says_nothing_is_given_up(sd15: Hub, models_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "ANSWER_SECONDS", 0.2)
    sd15.handlers[SD15] = lambda _: sd15.resume.wait(60) and None
    with pytest.raises(ModelError, match=r"did not come \(.*timed out\)"):
        download_model("sd15")
    sd15.resume.set()


def test_redirects_end(sd15: Hub, models_here: Path) -> None:
    sd15.handlers[UNET] = lambda to: faults.answer(302, Location=f"{sd15.url}{to.path}")(to)
    with pytest.raises(ModelError, match="redirected more than 10 times"):
        download_model("sd15")
    assert len([path for path, _ in sd15.headers if path.endswith(UNET)]) == 10


def test_another_file_behind_a_redirect_is_not_kept(sd15: Hub, models_here: Path) -> None:
    there = f"{sd15.url}/{SD15}/resolve/{table_of(sd15)['sha']}/vae/diffusion_pytorch_model.safetensors"
    sd15.handlers[UNET] = faults.answer(302, Location=there)
    with pytest.raises(ModelError, match=f"{UNET} of {SD15} (came with other bytes|did not come)"):
        download_model("sd15")
    assert not list(models_here.rglob("*.part"))
