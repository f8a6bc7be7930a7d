"""Photos as people have them: every format, mode and orientation. Refusals are in test_photo_refused.py."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from tenth.core.errors import PhotoError
from tenth.core.types import Photo, Pixels
from tenth.data import photo as photo_module
from tenth.data.containers.orientation import ORIENTATION, orientation
from tenth.data.photo import MAX_PHOTO_SIDE, open_photo

TRANSPOSED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,  # how the camera was held: EXIF 6 asks for the opposite turn
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def quarters(width: int = 64, height: int = 48) -> Image.Image:
    """Red, green, blue and grey quarters: every orientation of it is another picture."""
    image = Image.new("RGB", (width, height), (200, 30, 30))
    image.paste((30, 180, 30), (width // 2, 0, width, height // 2))
    image.paste((30, 30, 200), (0, height // 2, width // 2, height))
    image.paste((128, 128, 128), (width // 2, height // 2, width, height))
    return image


def corners(pixels: Pixels) -> np.ndarray:
    """Colours in the middle of the four quarters, (4, 3)."""
    height, width = pixels.shape[:2]
    return np.array([pixels[y, x] for y in (height // 4, 3 * height // 4) for x in (width // 4, 3 * width // 4)], dtype=int)


EXPECTED = corners(np.asarray(quarters()))


def saved(folder: Path, image: Image.Image, name: str, **settings: object) -> Path:
    image.save(folder / name, **settings)
    return folder / name


@pytest.mark.parametrize(("kind", "name"), [("JPEG", "a.jpg"), ("PNG", "a.png"), ("WEBP", "a.webp"), ("PNG", "misnamed.jpg")])
def test_formats(tmp_path: Path, kind: str, name: str) -> None:
    path = saved(tmp_path, quarters(), name, format=kind, **({} if kind == "PNG" else {"quality": 95}))
    opened = open_photo(path)
    assert opened.file == name
    assert opened.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.pixels.shape == (48, 64, 3)
    assert opened.pixels.dtype == np.uint8
    assert np.abs(corners(opened.pixels) - EXPECTED).max() <= (0 if kind == "PNG" else 6)  # lossy formats


def test_heic_turned_and_with_position(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0)})
    image = quarters(640, 480).transpose(Image.Transpose.ROTATE_90)
    opened = open_photo(saved(tmp_path, image, "a.heic", exif=exif.tobytes(), quality=95))
    assert opened.pixels.shape == (480, 640, 3)
    assert np.abs(corners(opened.pixels) - EXPECTED).max() <= 8  # lossy, 4:2:0


def test_heic_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(PhotoError, match=r"pip install 'tenth\[heic\]'") as caught:
        open_photo(tmp_path / "a.heic")
    assert caught.value.code == "needs-heic"


@pytest.mark.parametrize("orientation", TRANSPOSED)
def test_orientations_give_the_same_image(tmp_path: Path, orientation: int) -> None:
    turn = TRANSPOSED[orientation]
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = quarters() if turn is None else quarters().transpose(turn)
    assert np.array_equal(open_photo(saved(tmp_path, image, "a.png", exif=exif)).pixels, np.asarray(quarters()))
    lossy = open_photo(saved(tmp_path, image, "a.jpg", exif=exif, quality=95)).pixels
    assert np.abs(corners(lossy) - EXPECTED).max() <= 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_by_xmp_where_exif_says_nothing(tmp_path: Path, kind: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image = quarters().transpose(Image.Transpose.ROTATE_90)
    settings: dict[str, object] = {"xmp": xmp}
    if kind == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
        settings = {"pnginfo": text}
    path = saved(tmp_path, image, "a", format=kind, **settings)
    assert np.abs(corners(open_photo(path).pixels) - EXPECTED).max() <= 8
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    assert open_photo(saved(tmp_path, image, "b", format=kind, exif=exif, **settings)).pixels.shape == (64, 48, 3)


@pytest.mark.parametrize(
    ("exif", "expected"),
    [
        (b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0", 6),
        (b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\3\0\0", 3),
        (b"MM\0*\0\0\0\x08\0\1\1\x12\0\4\0\0\0\1\0\0\0\x08", 8),
        (b"MM\0*\xff\xff\xff\xff\0\1", 1),
        (b"MM\0*\0\0\0\x08\xff\xff\1\x12", 1),
        (b"", 1),
    ],
)
def test_orientation_in_both_orders_of_bytes(exif: bytes, expected: int) -> None:
    assert orientation(exif, b"") == expected


def test_position_does_not_survive(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 31.0, 12.0), 3: "E", 4: (13.0, 24.0, 18.0)})
    path = saved(tmp_path, quarters(), "a.jpg", exif=exif, comment=b"at home")
    assert Image.open(path).getexif().get_ifd(0x8825)[1] == "N"
    opened = open_photo(path)
    assert {field.name for field in dataclasses.fields(Photo)} == {"pixels", "digest", "file", "face"}
    assert type(opened.pixels) is np.ndarray
    assert np.array_equal(opened.pixels, open_photo(saved(tmp_path, quarters(), "b.jpg")).pixels)


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    path = saved(tmp_path, quarters(), "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", quality=95)
    assert np.abs(corners(open_photo(path).pixels) - EXPECTED).max() <= 6


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1"])
def test_modes_of_png(tmp_path: Path, mode: str) -> None:
    opened = open_photo(saved(tmp_path, quarters().convert(mode), "a.png")).pixels
    assert np.array_equal(opened, np.asarray(quarters().convert(mode).convert("RGB")))


def test_cmyk(tmp_path: Path) -> None:
    opened = open_photo(saved(tmp_path, quarters().convert("CMYK"), "a.jpg", quality=95)).pixels
    assert np.abs(corners(opened) - EXPECTED).max() <= 6


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
    opened = open_photo(saved(tmp_path, Image.fromarray(values), "a.png")).pixels
    assert np.abs(opened[..., 0] - values / 257).max() <= 0.5 + 1e-9  # rounded
    assert np.array_equal(opened[..., 0], opened[..., 2])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (40, 20), (0, 0, 0, 255))
    image.paste((90, 90, 90, 0), (20, 0, 40, 20))
    if mode == "P":
        image = image.convert("RGB").quantize(2)
        transparent = image.getpixel((30, 10))
        path = saved(tmp_path, image, "a.png", transparency=bytes([0 if k == transparent else 255 for k in range(2)]))
    else:
        path = saved(tmp_path, image.convert(mode), "a.png")
    opened = open_photo(path).pixels
    assert opened[10, 5].max() == 0
    assert opened[10, 35].min() == 255


def test_half_transparent(tmp_path: Path) -> None:
    opened = open_photo(saved(tmp_path, Image.new("RGBA", (8, 8), (0, 0, 0, 128)), "a.png")).pixels
    assert np.abs(opened.astype(int) - 127).max() <= 1


@pytest.mark.parametrize("kind", ["WEBP", "PNG"])
def test_first_frame_of_an_animation(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "red")]
    path = saved(tmp_path, frames[0], "a", format=kind, save_all=True, append_images=frames[1:], lossless=True)
    assert Image.open(path).n_frames == 3
    assert open_photo(path).pixels.min() == 255


def test_colour_profile(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    swapped = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    assert np.abs(open_photo(saved(tmp_path, red, "a.png", icc_profile=profile)).pixels[0, 0] - [255.0, 0, 0]).max() <= 2
    assert np.abs(open_photo(saved(tmp_path, red, "b.png", icc_profile=swapped)).pixels[0, 0] - [0.0, 255, 0]).max() <= 2
    for number, useless in enumerate(
        (profile[:90], b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
    ):
        path = saved(tmp_path, red, f"c{number}.png", icc_profile=useless)
        assert open_photo(path).pixels[0, 0].tolist() == [255, 0, 0]
    grey = saved(tmp_path, Image.new("L", (8, 8), 90), "d.png", icc_profile=swapped)
    assert open_photo(grey).pixels[0, 0].tolist() == [90, 90, 90]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(5000, 3000), (3000, 5000), (2049, 10), (9000, 1), (2048, 2048)])
def test_large_photos_are_reduced(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    opened = open_photo(saved(tmp_path, quarters(*size), "a.png")).pixels
    scale = MAX_PHOTO_SIDE / max(size)
    assert opened.shape == (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    if min(size) > 10:
        assert np.abs(corners(opened) - EXPECTED).max() <= 1


@pytest.mark.slow
def test_a_jpeg_is_reduced_like_a_lossless_copy_of_it(tmp_path: Path) -> None:
    blotches = np.random.default_rng(0).integers(0, 255, (75, 125, 3), dtype=np.uint8)
    jpeg = saved(tmp_path, Image.fromarray(blotches).resize((2500, 1501)), "a.jpg", quality=95)
    with Image.open(jpeg) as image:
        lossless = saved(tmp_path, image.copy(), "b.png")
    assert np.array_equal(open_photo(jpeg).pixels, open_photo(lossless).pixels)


def test_strips_meet_without_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = Image.fromarray(np.add.outer(np.arange(150), np.arange(250) // 2).astype(np.uint8)).resize((2500, 1501))
    path = saved(tmp_path, ramp, "a.png")
    whole = open_photo(path).pixels
    monkeypatch.setattr(photo_module, "STRIP_PIXELS", 10_000)
    assert np.array_equal(open_photo(path).pixels, whole)


def test_no_warning_leaks(tmp_path: Path) -> None:
    palette = saved(tmp_path, quarters().quantize(4), "a.png", transparency=bytes([0, 255, 255, 255]))
    exif = saved(tmp_path, quarters(), "b.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12")
    large = saved(tmp_path, Image.new("L", (10000, 9000)), "c.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [open_photo(path).pixels.ndim for path in (palette, exif, large)] == [3, 3, 3]
