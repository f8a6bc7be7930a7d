"""What a system handed in: whole and complete, or every kind of fault named with its files and refused."""

from __future__ import annotations

import os
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.evaluation.image_set import load_image
from tenth.experiments.benchmark.submission import read_submission
from tenth.experiments.benchmark.tasks import Benchmark

IMAGE = "portrait/1/000/0.png"


def refused(folder: Path, benchmark: Benchmark, *, partial: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        read_submission(folder, benchmark, partial=partial)
    return str(caught.value)


def test_a_complete_folder_of_any_program_is_taken(exported: Benchmark, folder: Path) -> None:
    (folder / ".DS_Store").touch()  # what a file manager leaves
    found = read_submission(folder, exported)
    assert (found.tasks, found.people, found.size, found.notes) == (exported.tasks, exported.people, (128, 128), ())
    assert found.path(found.tasks[0]) == folder / IMAGE
    Image.new("RGB", (128, 128)).save(folder / IMAGE)
    assert read_submission(folder, exported).digest != found.digest


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P"])
def test_eight_bits_a_channel_are_read_whatever_the_channels(exported: Benchmark, folder: Path, mode: str) -> None:
    Image.new("RGB", (128, 128), (102, 102, 102)).convert(mode).save(folder / IMAGE)
    found = read_submission(folder, exported)
    assert (load_image(found.path(found.tasks[0])) == 102).all()


def test_missing_images_are_named_and_counted(exported: Benchmark, folder: Path) -> None:
    gone = [task.image for task in exported.tasks if task.prompt_set == "attributes" and task.person == "001"]
    for name in gone:
        (folder / name).unlink()
    message = refused(folder, exported)
    assert f"20 missing: {', '.join(gone[:10])} and 10 more;" in message
    assert gone[10] not in message
    assert "or add --partial to score whole people alone" in message


def test_extra_and_wrongly_named_files_are_named(exported: Benchmark, folder: Path) -> None:
    (folder / "notes.txt").write_text("made on Monday")
    (folder / IMAGE).rename(folder / "portrait/1/000/00.PNG")
    (folder / "portrait/3/002").rename(folder / "portrait/3/2")
    (folder / "link").symlink_to(folder / "portrait")  # behind which nothing is looked for
    message = refused(folder, exported)
    assert f"3 missing: {IMAGE}, portrait/3/002/0.png, portrait/3/002/1.png;" in message
    assert "4 extra: notes.txt, portrait/1/000/00.PNG" in message
    assert "1 links to folders, which are not followed: link;" in message
    assert f"portrait/1/000/00.PNG (is {IMAGE} meant?)" in message
    assert "portrait/3/2/1.png (is portrait/3/002/1.png meant?)" in message
    assert "--partial" not in message  # which would not help


def chunk(content: bytes) -> bytes:
    """A PNG's, with length and checksum. content: with its name."""
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def spoilt(path: Path, how: str) -> None:
    content = path.read_bytes()
    path.unlink()
    if how == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif how == "empty":
        path.touch()
    elif how == "text":
        path.write_text("no image")
    elif how == "jpeg":
        Image.new("RGB", (128, 128)).save(path, "JPEG")
    elif how == "deep":
        Image.fromarray(np.full((128, 128), 40_000, np.uint16)).save(path)
    elif how == "deep colour":
        Image.new("RGB", (128, 128)).save(path)
        header = struct.pack(">4sIIBBBBB", b"IHDR", 128, 128, 16, 2, 0, 0, 0)
        rows = zlib.compress(bytes(128 * (1 + 128 * 6)))
        chunks = (header, b"IDAT" + rows, b"IEND")
        path.write_bytes(content[:8] + b"".join(map(chunk, chunks)))
    elif how == "empty profile":
        path.write_bytes(content[:-12] + chunk(b"iCCP") + content[-12:])
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path)
    else:
        width, height = map(int, how.split("x"))
        Image.new("RGB", (width, height)).save(path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("cut", f"1 broken: {IMAGE} is no whole PNG;"),
        ("empty", f"1 broken: {IMAGE} is no whole PNG;"),
        ("text", f"1 broken: {IMAGE} is no whole PNG;"),
        ("jpeg", f"1 broken: {IMAGE} is no whole PNG;"),
        ("deep", f"1 broken: {IMAGE} has pixels of the kind I;16, 16 bits a channel; at most 8 bits are scored;"),
        ("deep colour", f"1 broken: {IMAGE} has pixels of the kind RGB, 16 bits a channel; at most 8 bits are scored;"),
        ("empty profile", f"1 broken: {IMAGE} is no whole PNG;"),
        ("pipe", f"1 broken: {IMAGE} is a pipe or a device, not a file;"),
        ("loop", f"1 broken: {IMAGE} is a link that leads back to itself;"),
        ("folder", f"1 missing: {IMAGE};"),
        ("256x256", f"1 not 128 x 128 as the others: {IMAGE} (256 x 256);"),
        ("128x160", f"1 not 128 x 128 as the others: {IMAGE} (128 x 160);"),
        ("64x64", f"1 broken: {IMAGE} has 64 x 64 pixels; a side has 112 to 4096;"),
        ("5000x128", f"1 broken: {IMAGE} has 5000 x 128 pixels; a side has 112 to 4096;"),
    ],
)
def test_a_spoilt_image_is_named(exported: Benchmark, folder: Path, how: str, message: str) -> None:
    spoilt(folder / IMAGE, how)
    found = refused(folder, exported)
    assert message in found
    assert "one whole PNG at the `image` of each line of tasks.jsonl is needed, all of one size, and nothing else." in found
    if how != "folder":
        assert message in refused(folder, exported, partial=True)  # which forgives what is missing, and nothing else


def test_all_kinds_are_named_at_once(exported: Benchmark, folder: Path) -> None:
    for task, how in zip(exported.tasks, ("cut", "256x256", "folder"), strict=False):
        spoilt(folder / task.image, how)
    (folder / "x.png").touch()
    message = refused(folder, exported)
    assert [re.search(kind, message) is not None for kind in ("1 missing", "1 extra", "1 broken", "1 not 128")] == [True] * 4


def test_partial_takes_whole_people_and_says_so(exported: Benchmark, folder: Path) -> None:
    (folder / IMAGE).unlink()
    found = read_submission(folder, exported, partial=True)
    assert found.people == ("001", "002")
    assert {task.person for task in found.tasks} == {"001", "002"}
    assert found.notes == ("partial: 2 of 3 people",)
    (folder / IMAGE.replace("000", "001")).unlink()
    assert "has all images of 1 person; whole people are scored, and two are needed" in refused(folder, exported, partial=True)


def test_a_path_that_is_no_folder_of_images_is_refused(exported: Benchmark, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "none does not exist; a folder of images is needed" in refused(tmp_path / "none", exported)
    assert "file is a file; a folder of images is needed" in refused(tmp_path / "file", exported)
    (tmp_path / "empty").mkdir()
    assert "72 missing" in refused(tmp_path / "empty", exported)
    assert "72 missing" in refused(exported.directory, exported)  # the tasks themselves
