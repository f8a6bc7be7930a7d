"""Photos are opened in a process that may die: the server goes on, and says which photo it was."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from PIL import Image

from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.server.security import photo_child
from tenth.server.security.photo_child import UNSAFE, PhotoChild
from tenth.server.settings import PhotoChildLimits

T = TypeVar("T")
Verdicts = dict[str, dict[str, Any]]
ROOT = Path(__file__).resolve().parents[3]


def with_child(limits: PhotoChildLimits, work: Callable[[PhotoChild], Awaitable[T]]) -> T:
    async def run() -> T:
        child = PhotoChild(limits)
        try:
            return await work(child)
        finally:
            await child.close()

    return asyncio.run(run())


async def inspected(child: PhotoChild, folder: Path, contents: dict[str, bytes]) -> Verdicts:
    """The verdicts on files of these contents, by the names that their senders gave them."""
    names = {}
    for number, (name, content) in enumerate(contents.items()):
        path = folder / f"{number}"
        path.write_bytes(content)
        names[path] = name
    verdicts = await child.inspect(names)
    return {name: verdicts[path] for path, name in names.items()}


@pytest.fixture
def toy_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_child, "MODULE", "toy_photo_child")
    monkeypatch.setattr(photo_child, "START_SECONDS", 30)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(ROOT / name) for name in ("src", "tests")))


@pytest.mark.slow
@pytest.mark.usefixtures("toy_child")
@pytest.mark.parametrize("bad", [b"dies", b"memory", b"lies"])
def test_a_photo_that_kills_the_process_is_told_from_the_others(bad: bytes, tmp_path: Path) -> None:
    contents = {"a.jpg": b"fine", "b.jpg": bad, "c.jpg": b"fine"}
    verdicts = with_child(PhotoChildLimits(), lambda child: inspected(child, tmp_path, contents))
    assert {name: verdict["code"] for name, verdict in verdicts.items()} == {"a.jpg": "ok", "b.jpg": "unsafe", "c.jpg": "ok"}
    assert verdicts["b.jpg"] == UNSAFE


@pytest.mark.slow
@pytest.mark.usefixtures("toy_child")
def test_a_photo_that_takes_too_long_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(child: PhotoChild) -> tuple[Verdicts, Verdicts]:
        before = await inspected(child, tmp_path, {"a.jpg": b"fine"})
        monkeypatch.setattr(photo_child, "START_SECONDS", 0)
        slow = await inspected(child, tmp_path, {"b.jpg": b"sleeps"})
        monkeypatch.setattr(photo_child, "START_SECONDS", 30)
        assert await inspected(child, tmp_path, {"c.jpg": b"fine"})
        return before, slow

    before, slow = with_child(PhotoChildLimits(seconds=0.5), work)
    assert before["a.jpg"]["code"] == "ok"
    assert slow["b.jpg"] == UNSAFE


@pytest.mark.slow
def test_the_process_opens_photos_and_survives_bombs(tmp_path: Path) -> None:
    whole = io.BytesIO()
    Image.new("L", (12_000, 12_000)).save(whole, "PNG")
    photo = min(EXAMPLE_PHOTOS_DIR.glob("*.png")).read_bytes()
    contents = {
        "photo.png": photo,
        "bomb.png": whole.getvalue(),
        "text.jpg": b"<script>",
        "cut.png": photo[:5000],
        "empty.jpg": b"",
    }

    async def work(child: PhotoChild) -> tuple[Verdicts, int, int]:
        verdicts = await inspected(child, tmp_path, contents)
        assert child.process is not None
        pid = child.process.pid
        memory = psutil.Process(pid).memory_info().rss

        # Killed, it is there again for the next.
        os.kill(pid, signal.SIGKILL)
        again = await inspected(child, tmp_path, {"photo.png": photo})
        assert again["photo.png"] == verdicts["photo.png"]
        return verdicts, memory, pid

    verdicts, memory, pid = with_child(PhotoChildLimits(), work)
    codes = {name: verdict["code"] for name, verdict in verdicts.items()}
    assert codes == {
        "photo.png": "ok",
        "bomb.png": "too-large",
        "text.jpg": "not-a-photo",
        "cut.png": "truncated",
        "empty.jpg": "empty",
    }
    face = verdicts["photo.png"]["face"]
    assert all(0 <= edge <= 1 for edge in face)
    assert face[0] < 0.5 < face[2]
    assert memory < 1_000_000_000
    assert not psutil.pid_exists(pid)
    assert "text.jpg is not a photo" in verdicts["text.jpg"]["reason"]

    # A thumbnail of each that opens, without the photo's metadata.
    thumbnails = {path.name for path in tmp_path.glob("*.png")}
    assert thumbnails == {"0.png"}
    with Image.open(tmp_path / "0.png") as thumbnail:
        assert max(thumbnail.size) <= 256
        assert thumbnail.info == {}


@pytest.mark.slow
def test_a_photo_has_its_own_time_however_many_come_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is never opened ends the process after the seconds of one photo, not of all."""
    script = tmp_path / "slow_child.py"
    script.write_text("import sys, time\nfor line in sys.stdin:\n    print('null', flush=True)\n    time.sleep(60)\n")
    monkeypatch.setattr(photo_child, "MODULE", "slow_child")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    paths = {tmp_path / f"{number}": f"{number}.jpg" for number in range(100)}

    async def work(child: PhotoChild) -> float:
        began = time.monotonic()
        assert await child._ask(paths) is None
        return time.monotonic() - began

    assert with_child(PhotoChildLimits(seconds=0.5), work) < 25
