"""Open a photo safely: four formats told by their content, limits checked before decoding, upright sRGB out, no metadata."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tenth.core.errors import PhotoError
from tenth.core.file_reading import UnreadableError, open_regular
from tenth.core.types import Photo, Pixels
from tenth.data.containers.heic import BRANDS, Heic
from tenth.data.containers.jpeg import jpeg_parts
from tenth.data.containers.orientation import orientation
from tenth.data.containers.parts import Parts, TooComplexError, png_parts, webp_parts

PHOTO_PIXELS = 2048  # longest side of Photo.pixels: enough for a 1024 px crop of a face that fills half of it
FILE_BYTES = 100_000_000  # a 200-megapixel phone photo is about 60 MB
HEADER_PIXELS = 250_000_000  # no phone makes more; bounds the time that a small crafted file can cost
MEMORY_BYTES = 300_000_000  # at most, reckoned from the header before decoding
PILLOW_BYTES, WEBP_BYTES = 4, 20  # a pixel while decoding; of WebP with the codec's buffers, measured
REDUCING_BYTES = 40_000_000  # for a strip, a copy reduced to PHOTO_PIXELS and the array of it
STRIP_PIXELS = 1 << 20  # converted to RGB at a time, so that a second full-size copy never exists
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PROFILE_MODES = {"RGB ": "RGB", "CMYK": "CMYK", "GRAY": "L"}
FLOATING = (b"D2B", b"B2D")  # tags of profiles that hold chains of arithmetic of any length, run for each colour
# What decoders were seen to raise, or may by their source, on hostile bytes; Image.DecompressionBombError comes from WebP.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, AttributeError, AssertionError, LookupError, ArithmeticError),
    *(RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)

_one_at_a_time = threading.Lock()  # Python's warning filters are global, and memory stays that of one photo

Picture = Image.Image | Heic  # what has a size, a mode, and parts that can be cropped


def open_photo(path: Path, longest: int = PHOTO_PIXELS) -> Photo:
    """A photo as upright 8-bit sRGB, the longer side at most `longest`; larger ones are reduced (box, then Lanczos).

    JPEG, PNG, WebP and, with `pip install tenth[heic]`, HEIC, told by content, never by name. Transparency is laid on white;
    of an animation the first frame counts; EXIF orientation and colour profile are applied, then all metadata is left behind.
    Takes under 300 MB and a few seconds, whatever the file; but a crafted lossless WebP can make libwebp take over a gigabyte
    for its tables, which nobody can know before decoding. Raises PhotoError with one of the codes: missing, folder,
    not-a-file, unreadable, empty, too-large, too-complex, not-a-photo, needs-heic, truncated.
    """
    _check_file(path)
    try:
        with open_regular(path, FILE_BYTES) as file, _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either handled here or no concern of the user
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            pixels = _pixels(file, path.name, longest)
    except (OSError, UnreadableError) as error:
        raise _unreadable(path.name, error) from error
    except MemoryError as error:
        raise _too_large(path.name, "more pixels than this machine has memory for", "what fits") from error
    return Photo(pixels, digest, path.name)


def seems_photo(path: Path) -> bool:
    """Whether a file begins as one of the four formats does, whatever its name. Opens nothing but regular files."""
    try:
        with open_regular(path) as file:
            return _kind(file.read(16)) != ""
    except (OSError, UnreadableError):
        return False


def _check_file(path: Path) -> None:
    # stat first: opening a named pipe would wait for ever, opening a device may do anything.
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise PhotoError("missing", f"{path.name} does not exist", "a photo is needed", "Check the path") from error
    except OSError as error:
        raise _unreadable(path.name, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise PhotoError("folder", f"{path.name} is a folder", "a photo is needed", "Move its photos one level up")
    if not stat.S_ISREG(status.st_mode):
        raise PhotoError("not-a-file", f"{path.name} is a pipe, socket or device", "a photo is needed", "Remove it")
    if status.st_size == 0:
        raise PhotoError("empty", f"{path.name} is empty", "a photo is needed", "Copy or download it again")
    if status.st_size > FILE_BYTES:
        raise _too_large(path.name, f"{status.st_size / 1e6:.0f} MB", f"{FILE_BYTES / 1e6:.0f} MB")


def _unreadable(name: str, error: OSError | UnreadableError) -> PhotoError:
    known = isinstance(error, OSError) and error.errno
    why = os.strerror(known) if known else str(error) or type(error).__name__
    return PhotoError("unreadable", f"{name} cannot be read ({why})", "a readable file is needed", "Check its permissions")


def _too_large(name: str, found: str, most: str) -> PhotoError:
    return PhotoError("too-large", f"{name} has {found}", f"at most {most} can be opened safely", "Save a smaller copy of it")


def _pixels(file: BinaryIO, name: str, longest: int) -> Pixels:
    try:
        image, parts = _opened(file, name)
        _check_size(image, parts, name, longest)
    except TooComplexError as error:
        found, action = f"{name} has {error.found}", "Save a copy of it with another program"
        raise PhotoError("too-complex", found, f"at most {error.most} can be opened safely", action) from error
    except DAMAGED as error:
        raise _not_a_photo(name) from error
    try:
        image.load()
        if isinstance(image, Heic) or parts is None:
            profile, turn = getattr(image, "profile", b""), 1  # turned by its decoder
        else:
            profile, turn = parts.profile, orientation(parts.exif, parts.xmp)
        reduced = _small_rgb(image, _to_srgb(profile, image.mode), longest)
        return np.array(reduced.transpose(UPRIGHT[turn]) if turn in UPRIGHT else reduced)  # (H, W, 3)
    except DAMAGED as error:
        found = f"{name} is cut short or damaged"
        raise PhotoError("truncated", found, "a whole photo is needed", "Copy or download it again") from error


def _not_a_photo(name: str) -> PhotoError:
    return PhotoError("not-a-photo", f"{name} is not a photo", "JPEG, PNG, WebP or HEIC is needed", "Save it as JPEG")


def _kind(head: bytes) -> str:
    """JPEG, PNG, WEBP, HEIF, or '', by the first 16 bytes."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    return "HEIF" if head[4:8] == b"ftyp" and head[8:12] in BRANDS else ""


def _opened(file: BinaryIO, name: str) -> tuple[Picture, Parts | None]:
    # The class is called itself, not through Image.open: no other decoder ever sees the bytes (an EPS named x.png opens as
    # EPS there), and Image.open refuses 200-megapixel JPEGs, which decode well at an eighth of their size.
    file.seek(0)
    kind = _kind(file.read(16))
    if kind == "HEIF":
        return _heic(file, name), None
    if kind == "":
        raise _not_a_photo(name)
    parts = {"JPEG": jpeg_parts, "PNG": png_parts, "WEBP": webp_parts}[kind](file)
    picture: Any = parts.file
    if kind != "WEBP":
        return (JpegImageFile if kind == "JPEG" else PngImageFile)(picture), parts
    # Before it is opened, which makes room for whole pictures.
    _check_needed(WEBP_BYTES * parts.size[0] * parts.size[1] + picture.length, parts.size, name)
    return WebPImageFile(io.BytesIO(picture.readall())), parts


def _heic(file: BinaryIO, name: str) -> Heic:
    try:
        return Heic(file)
    except ImportError as error:
        found = f"{name} is a HEIC photo and pillow-heif is not installed"
        raise PhotoError("needs-heic", found, "HEIC needs it", "Run `pip install tenth[heic]`, or save it as JPEG") from error


def _check_size(image: Picture, parts: Parts | None, name: str, longest: int) -> None:
    """Refuse by the header what would take too much memory. A JPEG is first told to decode no larger than needed."""
    width, height = size = image.size
    if min(size) < 1:
        raise _not_a_photo(name)
    needed = REDUCING_BYTES + PILLOW_BYTES * width * height
    if isinstance(image, Heic):
        needed = image.needed_bytes
    elif isinstance(image, JpegImageFile):
        coefficients = _coefficient_bytes(image) if parts is None or parts.scans else 0
        reduction = max(size) / longest
        image.draft(None, (max(1, int(width / reduction)), max(1, int(height / reduction))))
        needed = REDUCING_BYTES + coefficients + PILLOW_BYTES * image.width * image.height
    elif isinstance(image, WebPImageFile):
        return  # was checked before it was opened
    _check_needed(needed, size, name)


def _check_needed(needed: int, size: tuple[int, int], name: str) -> None:
    width, height = size
    if needed > MEMORY_BYTES or width * height > HEADER_PIXELS:
        most = min(HEADER_PIXELS, MEMORY_BYTES * width * height // max(1, needed)) / 1e6
        raise _too_large(name, f"{width} x {height} pixels", f"{most:.0f} megapixels of such a file")


def _coefficient_bytes(image: JpegImageFile) -> int:
    """What libjpeg keeps besides the picture where colours come in several scans: two bytes per coefficient."""
    most = max(h for _, h, _, _ in image.layer) * max(v for _, _, v, _ in image.layer)
    return 2 * image.width * image.height * sum(h * v for _, h, v, _ in image.layer) // max(1, most)


def _small_rgb(image: Picture, colours: ImageCms.ImageCmsTransform | None, longest: int) -> Image.Image:
    """RGB of at most `longest` pixels a side, converted strip by strip."""
    factor = max(1, max(image.size) // longest)
    if PILLOW_BYTES * image.width * image.height * (1 + 1 / factor**2) > MEMORY_BYTES - REDUCING_BYTES:
        factor += 1  # smaller than asked for, rather than two large copies at once
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced.paste(_rgb(strip, colours).reduce(factor), (0, top // factor))
    if (longer := max(reduced.size)) > longest:
        size = (max(1, round(side * longest / longer)) for side in reduced.size)
        return reduced.resize((next(size), next(size)), Image.Resampling.LANCZOS)
    return reduced


def _rgb(image: Image.Image, colours: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: convert() would clip at 255 instead of scaling
        image = Image.fromarray(((np.asarray(image).astype(np.uint32).clip(0, 65535) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if colours is None:
        return image.convert("RGB")
    return ImageCms.applyTransform(image.convert(colours.input_mode), colours) or image.convert("RGB")


def _to_srgb(embedded: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from the embedded colour profile to sRGB; None where there is none, or it is damaged or of another kind."""
    if not embedded or any(
        embedded[place : place + 3] in FLOATING for place in range(132, min(len(embedded), 132 + 12 * 100), 12)
    ):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        given = PROFILE_MODES.get(profile.profile.xcolor_space)
        if given != ("L" if mode[0] in "1LI" else "CMYK" if mode == "CMYK" else "RGB"):
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), given, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
