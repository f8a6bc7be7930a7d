"""Files that ask for minutes or gigabytes without one pixel more: opened without it, or refused with a code."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

import toy_photos as toy
from tally import Tally, tally_inputs
from tenth.core.errors import PhotoError
from tenth.core.types import Pixels
from tenth.data.containers.jpeg import MAX_SCANS, parse_jpeg
from tenth.data.containers.parts import MAX_PARTS, MAX_READ_BYTES, parse_png, parse_webp
from tenth.data.photo import MAX_PHOTO_SIDE, open_photo

TEAL = Image.new("RGB", (64, 48), "teal")
BLANK = bytes(1_000_000)


def opened(folder: Path, content: bytes) -> Pixels:
    """Opened within five seconds and 300 MB."""
    path = folder / "photo"
    path.write_bytes(content)
    with tally_inputs("photo bombs") as tally:
        photo = tally.attempt("photo", lambda: open_photo(path))
    assert photo is not None
    return photo.pixels


def refused(folder: Path, content: bytes) -> str:
    """Refused within five seconds and 300 MB, in one line; its code and that line."""
    path = folder / "photo"
    path.write_bytes(content)
    with tally_inputs("photo bombs") as tally, pytest.raises(PhotoError) as caught:
        refuse(tally, path)
    assert "\n" not in str(caught.value)
    return f"{caught.value.code}: {caught.value}"


def refuse(tally: Tally, path: Path) -> None:
    found: list[PhotoError] = []

    def attempt() -> None:
        try:
            open_photo(path)
        except PhotoError as error:
            found.append(error)

    tally.attempt("photo", attempt)
    raise found[0]


def with_scans(image: Image.Image, more: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    whole = toy.encode_image(image, "JPEG", progressive=True)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    return whole[:end] + whole[last:end] * more + whole[end:]


def test_scans(tmp_path: Path) -> None:
    assert refused(tmp_path, with_scans(TEAL, 1000)) == (
        f"too-complex: photo has more than {MAX_SCANS} scans; at most {MAX_SCANS} can be opened safely. "
        "Save a copy of it with another program."
    )
    assert opened(tmp_path, with_scans(TEAL, 50)).shape == (48, 64, 3)


def test_fewer_scans_of_a_larger_image(tmp_path: Path) -> None:
    large = Image.new("L", (6000, 6000))
    assert refused(tmp_path, with_scans(large, 70)).startswith("too-complex: photo has more than 69 scans")
    assert opened(tmp_path, with_scans(large, 0)).shape[1] == MAX_PHOTO_SIDE


def test_scans_hidden_behind_a_marker_without_a_length(tmp_path: Path) -> None:
    """Decoders take reserved markers in a scan for junk and go on with what follows, whatever length seems to stand there."""
    whole = toy.encode_image(TEAL, "JPEG", progressive=True, restart_marker_blocks=1)
    last, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    hidden = b"\xff\x02" + struct.pack(">H", 60_000) + whole[last:end] * 200
    assert refused(tmp_path, whole[:end] + hidden + whole[end:]).startswith("too-complex: photo has more than 100 scans")


def test_scans_are_not_looked_for_in_what_follows_the_image(tmp_path: Path) -> None:
    whole = toy.encode_image(TEAL, "JPEG", progressive=True)
    assert opened(tmp_path, whole + b"\xff\xda\0\2" * 1000).shape == (48, 64, 3)


@pytest.mark.parametrize("place", ["before", "between"])
def test_segments(tmp_path: Path, place: str) -> None:
    whole = toy.encode_image(TEAL, "JPEG", progressive=True)
    at = 2 if place == "before" else whole.rindex(b"\xff\xda")
    content = whole[:at] + toy.jpeg_segment(0xFE) * (MAX_PARTS + 1) + whole[at:]
    assert refused(tmp_path, content).startswith("too-complex: photo has more than 100,000 segments")


@pytest.mark.parametrize("filler", [b"\xff", b"\0"])
def test_what_fills_the_room_between_segments(tmp_path: Path, filler: bytes) -> None:
    whole = toy.encode_image(TEAL, "JPEG")
    assert opened(tmp_path, whole[:20] + filler * 30_000_000 + whole[20:]).shape == (48, 64, 3)


def test_a_decoder_sees_no_metadata_of_a_jpeg(tmp_path: Path) -> None:
    plain = toy.encode_image(TEAL, "JPEG")
    metadata = (b"Exif\0\0MM\0*", b"ICC_PROFILE\0\1\1", b"Photoshop 3.0\x008BIM", b"MPF\0")
    segments = [toy.jpeg_segment(0xE1 + place, key + bytes(60_000)) for place, key in enumerate(metadata)] * 400
    path = tmp_path / "photo"
    path.write_bytes(plain[:2] + b"".join(segments) + plain[2:])
    with path.open("rb") as file:
        assert parse_jpeg(file).file.readall() == plain
    assert np.array_equal(opened(tmp_path, path.read_bytes()), opened(tmp_path, plain))


def test_chunks_of_png(tmp_path: Path) -> None:
    data = toy.png_chunk(b"IDAT") * (MAX_PARTS + 1)
    for content in (toy.png_file((8, 8), before=toy.png_chunk(b"prVt") * (MAX_PARTS + 1)), toy.png_file((8, 8), data=data)):
        assert refused(tmp_path, content).startswith("too-complex: photo has more than 100,000 chunks")


@pytest.mark.slow
@pytest.mark.parametrize(
    "chunk",
    [
        b"iTXtXML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"\xff" * 2_000_000, 9),
        b"zTXtk\0\0" + zlib.compress(BLANK, 9),
        b"iCCPk\0\0" + zlib.compress(BLANK * 5, 9),
        b"iCCPk\0\0" + zlib.compress(BLANK, 9)[:-20],
        b"tEXtk\0" + BLANK[:1000],
        b"eXIf" + BLANK[:1000],
    ],
    ids=lambda chunk: chunk[:4].decode(),
)
def test_a_decoder_sees_no_metadata_of_a_png(tmp_path: Path, chunk: bytes) -> None:
    several = toy.png_chunk(chunk[:4], chunk[4:]) * 8000
    path = tmp_path / "photo"
    path.write_bytes(toy.png_file((64, 48), before=several, after=several))
    with path.open("rb") as file:
        assert parse_png(file).file.readall() == toy.png_file((64, 48))
    assert opened(tmp_path, path.read_bytes()).shape == (48, 64, 3)


def test_what_follows_the_image_of_a_png_is_never_read_at_once(tmp_path: Path) -> None:
    """Pillow asks for what is left of a chunk when it has its pixels, and for every chunk after it."""
    data = zlib.compress(bytes(48 * (1 + 3 * 64))) + bytes(90_000_000)
    after = toy.png_chunk(b"prVt", bytes(5_000_000))
    assert opened(tmp_path, toy.png_file((64, 48), data=toy.png_chunk(b"IDAT", data), after=after)).max() == 0
    with (tmp_path / "photo").open("rb") as file:
        parts = parse_png(file)
        assert parts.file.length < len(data) + 100
        assert len(parts.file.read(len(data))) == MAX_READ_BYTES


def test_chunks_and_frames_of_webp(tmp_path: Path) -> None:
    picture = toy.encode_image(TEAL, "WEBP")[12:]
    content = toy.webp_file(toy.webp_canvas(0, 64, 48), picture, toy.riff_chunk(b"JUNK", b"") * (MAX_PARTS + 1))
    assert refused(tmp_path, content).startswith("too-complex: photo has more than 100,000 chunks")
    sides = (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
    frame = toy.riff_chunk(b"ANMF", bytes(6) + sides + bytes(4) + picture)
    start = toy.webp_canvas(2, 64, 48) + toy.riff_chunk(b"ANIM", bytes(6))
    assert refused(tmp_path, toy.webp_file(start, frame * (MAX_PARTS + 1))).startswith("too-complex: photo has more than")
    inside = toy.riff_chunk(b"ANMF", bytes(6) + sides + bytes(4) + toy.riff_chunk(b"JUNK", b"") * (MAX_PARTS + 1) + picture)
    assert refused(tmp_path, toy.webp_file(start, inside)).startswith("too-complex: photo has more than")


def test_a_decoder_sees_one_image_of_a_webp(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("teal", "red", "blue")]
    moving = toy.encode_image(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    plain = toy.encode_image(TEAL, "WEBP", lossless=True)[12:]
    flags = 0x2C  # with profile, EXIF and XMP
    useless = [toy.riff_chunk(kind, bytes(20_000_000)) for kind in (b"ICCP", b"EXIF", b"XMP ", b"JUNK")]
    still = toy.webp_file(toy.webp_canvas(flags, 64, 48), useless[0], plain, *useless[1:])
    for content in (moving, still):
        assert np.array_equal(opened(tmp_path, content), np.asarray(TEAL))
        with (tmp_path / "photo").open("rb") as file:
            assert parse_webp(file).file.length < 300


def test_images_of_a_heic_that_share_their_metadata(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    settings, data = toy.heic_tile(TEAL.resize((64, 64)))
    pictures = [(number, b"hvc1", data if number == 1 else 1, [0x81, 2]) for number in range(1, 301)]
    properties = [settings, toy.heic_extent(64, 64)]
    exif = (999, b"Exif", bytes(20_000_000), [])
    content = toy.heic_file([*pictures, exif], properties, [(b"cdsc", 999, list(range(1, 301)))])
    assert opened(tmp_path, content).shape == (64, 64, 3)


def test_a_heic_of_48_megapixels(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    tile = Image.linear_gradient("L").resize((512, 512)).convert("RGB")
    content = toy.heic_grid(tile, 16, 12)
    pixels = opened(tmp_path, content)
    assert pixels.shape == (1536, 2048, 3)
    assert np.abs(pixels[64, 64].astype(int) - np.asarray(tile)[256, 256]).max() < 6
    assert refused(tmp_path, toy.heic_grid(tile, 16, 16)).startswith("too-large: photo has 8192 x 8192 pixels; at most")


def test_a_profile_of_endless_arithmetic(tmp_path: Path) -> None:
    """A chain of 20,000 matrices, all of them the same bytes, which littleCMS runs for each point of its table."""
    matrix = b"matf" + bytes(4) + struct.pack(">HH12f", 3, 3, *[0.3] * 12)
    count = 20_000
    chain = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, count) + struct.pack(">II", 16 + 8 * count, len(matrix)) * count
    plain = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    entries = struct.unpack(">I", plain[128:132])[0]
    table = b"".join(
        struct.pack(">4sII", name, place + 12, size)
        for name, place, size in struct.iter_unpack(">4sII", plain[132 : 132 + 12 * entries])
    )
    table += struct.pack(">4sII", b"D2B0", len(plain) + 12, len(chain + matrix))
    whole = plain[4:128] + struct.pack(">I", entries + 1) + table + plain[132 + 12 * entries :] + chain + matrix
    profile = struct.pack(">I", len(whole) + 4) + whole
    assert len(profile) < 200_000
    pixels = opened(tmp_path, toy.encode_image(TEAL, "PNG", icc_profile=profile))
    assert np.array_equal(pixels, np.asarray(TEAL))
