"""Mutated photos of every format: each is opened, or refused with a known code, soon and in little memory."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import toy_photos as toy
from mutations import mutations
from tally import SEED, TIMES, Tally, tally_inputs
from tenth.core.errors import PhotoError
from tenth.data.photo import MAX_PHOTO_SIDE, has_photo_signature, open_photo

CODES = {"empty", "too-large", "too-complex", "not-a-photo", "truncated"}
SIDES = (0, 1, 2, 255, 256, 4097, 16_383, 16_384, 65_500, 65_535, 2**24 - 1, 2**31 - 1, 2**32 - 1)
BYTES, FORGED = 150, 80  # of each file: versions of its bytes, and versions of its structure


def faces() -> Image.Image:
    """Soft blotches and noise, so that every encoder has something of everything."""
    rng = np.random.default_rng(0)
    soft = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((128, 96), Image.Resampling.BICUBIC)
    return Image.fromarray((np.asarray(soft) // 2 + rng.integers(0, 127, (96, 128, 3), dtype=np.uint8)).astype(np.uint8))


def jpegs() -> Iterator[bytes]:
    yield toy.encode_image(faces(), "JPEG", exif=Image.Exif(), comment=b"at home")
    yield toy.encode_image(faces(), "JPEG", progressive=True, restart_marker_blocks=4)
    yield toy.encode_image(faces().convert("CMYK"), "JPEG")


def pngs() -> Iterator[bytes]:
    yield toy.encode_image(faces(), "PNG")
    yield toy.encode_image(faces().quantize(200), "PNG", transparency=bytes(range(200)))
    yield toy.encode_image(faces().convert("RGBA"), "PNG", save_all=True, append_images=[faces().convert("RGBA")])


def webps() -> Iterator[bytes]:
    yield toy.encode_image(faces(), "WEBP")
    yield toy.encode_image(faces(), "WEBP", lossless=True, exif=Image.Exif(), icc_profile=b"none")
    yield toy.encode_image(faces().convert("RGBA"), "WEBP", save_all=True, append_images=[faces().convert("RGBA")])


def heics() -> Iterator[bytes]:
    pytest.importorskip("pillow_heif")
    yield toy.encode_image(faces(), "HEIF", exif=Image.Exif().tobytes() or b"Exif\0\0MM")
    yield toy.heic_grid(faces().resize((64, 64)), 3, 2)


def times(part: bytes, chance: random.Random) -> int:
    """How often it is repeated: up to a megabyte, so that the memory that is counted is not the test's."""
    return min(chance.choice((2, 50, 3000)), 1 + 1_000_000 // (len(part) + 12))


def forged_jpeg(content: bytes, chance: random.Random) -> bytes:
    """A segment doubled many times, moved, or the picture given another size."""
    places = [
        at
        for at in range(len(content) - 4)
        if content[at] == 0xFF and content[at + 1] in (*range(0xC0, 0xD0), *range(0xDA, 0xFF))
    ]
    at = chance.choice(places)
    length = 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    segment = content[at : at + length]
    how = chance.randrange(4)
    if how == 0:
        return content[:at] + segment * times(segment, chance) + content[at:]
    if how == 1:
        to = chance.choice(places)
        return content[:to] + segment + content[to:]
    if how == 2:
        return content[: at + 1] + bytes([chance.choice((*range(0xC0, 0xD0), *range(0xDA, 0xFF)))]) + content[at + 2 :]
    frame = next((at for at in places if content[at + 1] in (0xC0, 0xC2)), 2)
    sides = struct.pack(">HH", *(chance.choice(SIDES) & 0xFFFF for _ in range(2)))
    return content[: frame + 5] + sides + content[frame + 9 :]


def forged_png(content: bytes, chance: random.Random) -> bytes:
    """Chunks doubled, moved or of another kind, sizes and colours of the header swapped; every checksum is right."""
    chunks, place = [], 8
    while place < len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    at = chance.randrange(len(chunks))
    how = chance.randrange(4)
    if how == 0:
        chunks[at:at] = [chunks[at]] * times(chunks[at][-1], chance)
    elif how == 1:
        chunks.insert(chance.randrange(len(chunks)), chunks.pop(at))
    elif how == 2:
        kind = chance.choice(
            (b"IDAT", b"fdAT", b"fcTL", b"acTL", b"iCCP", b"iTXt", b"zTXt", b"eXIf", b"tRNS", b"PLTE", b"IHDR")
        )
        chunks.insert(at, (kind, chance.choice((b"", chance.randbytes(40), b"k\0\0" + zlib.compress(bytes(2_000_000))))))
    else:
        depth, colour = chance.choice((1, 2, 4, 8, 16)), chance.choice((0, 2, 3, 4, 6))
        sides = struct.pack(">II", *(chance.choice((*SIDES, 96, 128)) for _ in range(2)))
        chunks[0] = (b"IHDR", sides + bytes([depth, colour, 0, 0, chance.randrange(2)]))
    return toy.PNG_HEAD + b"".join(toy.png_chunk(*chunk) for chunk in chunks)


def forged_webp(content: bytes, chance: random.Random) -> bytes:
    """Chunks doubled, moved or left out, the canvas of another size, its flags swapped."""
    chunks, place = [], 12
    while place < len(content):
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        chunks.append(content[place : place + 8 + length + length % 2])
        place += 8 + length + length % 2
    at, how = chance.randrange(len(chunks)), chance.randrange(4)
    if how == 0:
        chunks[at:at] = [chunks[at]] * times(chunks[at], chance)
    elif how == 1:
        chunks.insert(chance.randrange(len(chunks)), chunks.pop(at))
    elif how == 2:
        chunks = [each for each in chunks if each[:4] != b"VP8X"]
        chunks.insert(
            0, toy.webp_canvas(chance.randrange(256), *(1 + chance.choice((*SIDES, 95, 127)) % 2**24 for _ in range(2)))
        )
    else:
        chunks.insert(
            at, toy.riff_chunk(chance.choice((b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"ICCP")), chance.randbytes(40))
        )
    return toy.webp_file(*chunks)


def forged_heic(content: bytes, chance: random.Random) -> bytes:
    """A number in a box swapped: sizes, extents, counts of items and tiles, references."""
    at = content.find(chance.choice((b"ispe", b"iloc", b"iinf", b"infe", b"pitm", b"ipma", b"hvcC", b"iref", b"mdat", b"meta")))
    at = max(0, at + chance.randrange(-4, 24))
    size = chance.choice((1, 2, 4))
    return content[:at] + (chance.choice(SIDES) % 256**size).to_bytes(size, "big") + content[at + size :]


Forge = Callable[[bytes, random.Random], bytes]
FORMATS: dict[str, tuple[Callable[[], Iterator[bytes]], Forge]] = {
    "jpeg": (jpegs, forged_jpeg),
    "png": (pngs, forged_png),
    "webp": (webps, forged_webp),
    "heic": (heics, forged_heic),
}


def attempted(tally: Tally, path: Path, content: bytes, what: str) -> None:
    path.write_bytes(content)
    seen: list[str] = []

    def attempt() -> tuple[int, ...]:
        try:
            return open_photo(path).pixels.shape
        except PhotoError as error:
            seen.append(error.code)
            tally.check(f"{what}: {error}", "\n" not in str(error) and error.code in CODES)
            raise

    shape = tally.attempt(what, attempt)
    tally.check(f"{what}: {shape}", shape is None or (len(shape) == 3 and shape[2] == 3 and max(shape) <= MAX_PHOTO_SIDE))
    tally.check(f"{what}: {seen}", shape is None or has_photo_signature(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_mutated_photos(tmp_path: Path, name: str) -> None:
    sound, forge = FORMATS[name]
    chance = random.Random(f"{name} {SEED}")
    with tally_inputs(f"photos: {name}") as tally:
        for number, content in enumerate(sound()):
            attempted(tally, tmp_path / "photo", content, f"{name} {number} as it is")
            assert tally.refused == 0
        for number, content in enumerate(sound()):
            for count, changed in enumerate(mutations(content, SEED, BYTES * TIMES)):
                attempted(tally, tmp_path / "photo", changed, f"{name} {number}, seed {SEED}, mutation {count}")
            for count in range(FORGED * TIMES):
                forged = content
                for _ in range(chance.choice((1, 1, 2, 3))):
                    forged = forge(forged, chance)
                attempted(tally, tmp_path / "photo", forged, f"{name} {number}, seed {SEED}, forgery {count}")
    assert tally.tried - tally.refused > 10
    assert tally.refused > 10
