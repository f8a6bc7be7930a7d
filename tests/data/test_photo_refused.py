"""Files that are no photos, are damaged, or would take too much: each leaves as a PhotoError with its code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import PhotoError
from tenth.data import photo as photo_module
from tenth.data.photo import MAX_DECODE_BYTES, MAX_PHOTO_SIDE, open_photo

EPS = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
MEASURE = """
import json, sys, time
from pathlib import Path
import PIL.ImageCms, tenth.data.photo
def peak():
    return next(int(line.split()[1]) / 1000 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before, found = peak(), {}
for name in sys.argv[1:]:
    try:
        found[Path(name).name] = max(tenth.data.photo.open_photo(Path(name)).pixels.shape)
    except tenth.data.photo.PhotoError as error:
        found[Path(name).name] = error.code
print(json.dumps({"megabytes": peak() - before, "found": found}))
"""


def saved(folder: Path, image: Image.Image, name: str, **settings: object) -> Path:
    image.save(folder / name, **settings)
    return folder / name


def code_of(path: Path) -> str:
    with pytest.raises(PhotoError) as caught:
        open_photo(path)
    assert path.name in str(caught.value)
    return caught.value.code


def test_jpeg_cut_anywhere(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
    codes = set()
    for settings in ({}, {"progressive": True}):
        whole = saved(tmp_path, image, "whole.jpg", **settings).read_bytes()
        for length in np.linspace(1, len(whole) - 1, 50).astype(int):
            (tmp_path / "cut.jpg").write_bytes(whole[:length])
            codes.add(code_of(tmp_path / "cut.jpg"))
    assert codes == {"truncated", "not-a-photo"}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "HEIF"])
def test_other_formats_cut_or_damaged(tmp_path: Path, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
    whole = saved(tmp_path, image, "whole", format=kind).read_bytes()
    for length in np.linspace(1, len(whole) * 9 // 10, 20).astype(int):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert code_of(tmp_path / "cut") in {"truncated", "not-a-photo"}
    for start in np.linspace(12, len(whole) - 9, 20).astype(int):  # whatever comes of it, it is a photo or a PhotoError
        (tmp_path / "noisy").write_bytes(whole[:start] + rng.bytes(8) + whole[start + 8 :])
        try:
            assert open_photo(tmp_path / "noisy").pixels.ndim == 3
        except PhotoError as error:
            assert error.code in {"truncated", "not-a-photo", "too-large"}  # noqa: PT017


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty"),
        (b"\xff", "not-a-photo"),
        (b"Dear diary, today I took a photo.\n", "not-a-photo"),
        (EPS.encode(), "not-a-photo"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "not-a-photo"),
        (b"\xff\xd8\xff\xe0", "not-a-photo"),
        (b"RIFF\x10\0\0\0WEBPVP8X", "not-a-photo"),
    ],
)
def test_what_is_no_photo(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    assert code_of(tmp_path / "x.png") == code


def test_formats_that_are_not_allowed(tmp_path: Path) -> None:
    for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO"):
        assert code_of(saved(tmp_path, Image.new("RGB", (64, 48), "teal"), "x.png", format=kind)) == "not-a-photo"


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nothing")
    assert code_of(tmp_path / "folder.jpg") == "folder"
    assert code_of(tmp_path / "loop.jpg") == "unreadable"
    assert code_of(tmp_path / "dangling.jpg") == "missing"
    assert code_of(tmp_path / "nothing.jpg") == "missing"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert code_of(tmp_path / "pipe.jpg") == "not-a-file"  # opened, it would block for ever
    assert code_of(Path(os.devnull)) == "not-a-file"


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, Image.new("RGB", (64, 48), "teal"), "a.png")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert code_of(path) == "unreadable"


def test_too_many_bytes(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(photo_module.MAX_FILE_BYTES + 1)  # sparse: takes no room
    assert code_of(tmp_path / "a.jpg") == "too-large"


def test_webp_of_the_greatest_size_is_refused_by_its_header(tmp_path: Path) -> None:
    canvas = (16382).to_bytes(3, "little") * 2
    (tmp_path / "a.webp").write_bytes(b"RIFF\x20\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + canvas + bytes(8))
    assert code_of(tmp_path / "a.webp") in {"too-large", "not-a-photo"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory(tmp_path: Path) -> None:
    Image.new("1", (13300, 13300)).save(tmp_path / "bomb.png")
    Image.new("RGB", (8064, 6048), "teal").save(tmp_path / "48.png", compress_level=1)
    Image.new("L", (12000, 9000), 90).save(tmp_path / "108.jpg")
    Image.new("RGB", (8064, 6048), "teal").save(tmp_path / "progressive.jpg", progressive=True)
    Image.new("RGB", (8064, 6048), "teal").save(tmp_path / "dense.jpg", progressive=True, subsampling=0)
    Image.new("RGB", (4032, 3024), "teal").save(tmp_path / "12.webp")
    paths = sorted(str(path) for path in tmp_path.iterdir())
    answer = json.loads(subprocess.run([sys.executable, "-c", MEASURE, *paths], capture_output=True, check=True).stdout)
    opened = ("48.png", "108.jpg", "progressive.jpg", "12.webp")
    assert answer["found"] == dict.fromkeys(opened, MAX_PHOTO_SIDE) | {"bomb.png": "too-large", "dense.jpg": "too-large"}
    assert answer["megabytes"] < 300
    assert MAX_DECODE_BYTES <= 300e6
