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
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tenth.errors import PhotoError
from tenth.types import Photo, Pixels

PHOTO_PIXELS = 2048  # longest side of Photo.pixels: enough for a 1024 px crop of a face that fills half of it
FILE_BYTES = 100_000_000  # a 200-megapixel phone photo is about 60 MB
HEADER_PIXELS = 250_000_000  # no phone makes more; bounds the time that a small crafted file can cost
DECODING_BYTES = 260_000_000  # of memory at the height of decoding, reckoned from the header
BYTES_PER_PIXEL = {"PNG": 4, "WEBP": 20, "HEIF": 8}  # while decoding: Pillow's own 4 and the codec's buffers, measured
STRIP_PIXELS = 1 << 20  # converted to RGB at a time, so that a second full-size copy never exists
HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
ORIENTATION = 0x0112  # the EXIF tag
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
# What decoders were seen to raise, or may by their source, on hostile bytes; Image.DecompressionBombError comes from WebP.
DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, AttributeError, AssertionError, LookupError, ArithmeticError),
    *(RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)

_one_at_a_time = threading.Lock()  # Python's warning filters are global, and memory stays that of one photo


def open_photo(path: Path) -> Photo:
    """A photo as upright 8-bit sRGB, the longer side at most PHOTO_PIXELS; larger ones are reduced (box, then Lanczos).

    JPEG, PNG, WebP and, with `pip install tenth[heic]`, HEIC, told by content, never by name. Transparency is laid on white;
    of an animation the first frame counts; EXIF orientation and colour profile are applied, then all metadata is left behind.
    Takes under 300 MB whatever the file. Raises PhotoError with one of the codes: missing, folder, not-a-file, unreadable,
    empty, too-large, not-a-photo, needs-heic, truncated.
    """
    _check_file(path)
    try:
        with path.open("rb") as file, _one_at_a_time, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either handled here or no concern of the user
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            pixels = _pixels(file, path.name)
    except OSError as error:
        raise _unreadable(path.name, error) from error
    except MemoryError as error:
        raise _too_large(path.name, "more pixels than this machine has memory for", "what fits") from error
    return Photo(pixels, digest, path.name)


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


def _unreadable(name: str, error: OSError) -> PhotoError:
    why = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return PhotoError("unreadable", f"{name} cannot be read ({why})", "a readable file is needed", "Check its permissions")


def _too_large(name: str, found: str, most: str) -> PhotoError:
    return PhotoError("too-large", f"{name} has {found}", f"at most {most} can be opened safely", "Save a smaller copy of it")


def _pixels(file: BinaryIO, name: str) -> Pixels:
    try:
        image = _opened(file, name)
        _check_size(image, file, name)
    except DAMAGED as error:
        raise _not_a_photo(name) from error
    try:
        image.load()
        return np.array(_upright(_small_rgb(image), image))  # (H, W, 3)
    except DAMAGED as error:
        found = f"{name} is cut short or damaged"
        raise PhotoError("truncated", found, "a whole photo is needed", "Copy or download it again") from error


def _not_a_photo(name: str) -> PhotoError:
    return PhotoError("not-a-photo", f"{name} is not a photo", "JPEG, PNG, WebP or HEIC is needed", "Save it as JPEG")


def _opened(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    # The class is called itself, not through Image.open: no other decoder ever sees the bytes (an EPS named x.png opens as
    # EPS there), and Image.open refuses 200-megapixel JPEGs, which decode well at an eighth of their size.
    head = file.read(16)
    file.seek(0)
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImageFile(file)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImageFile(file)
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _webp(file, name)
    if head[4:8] == b"ftyp" and head[8:12] in HEIF_BRANDS:
        return _heif(file, name)
    raise _not_a_photo(name)


def _webp(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    try:
        return WebPImageFile(file)
    except Image.DecompressionBombError as error:
        raise _too_large(name, "too many pixels", f"{DECODING_BYTES // BYTES_PER_PIXEL['WEBP'] // 10**6} megapixels") from error


def _heif(file: BinaryIO, name: str) -> ImageFile.ImageFile:
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        found = f"{name} is a HEIC photo and pillow-heif is not installed"
        raise PhotoError("needs-heic", found, "HEIC needs it", "Run `pip install tenth[heic]`, or save it as JPEG") from error
    opened: ImageFile.ImageFile = HeifImageFile(file)
    return opened


def _check_size(image: ImageFile.ImageFile, file: BinaryIO, name: str) -> None:
    """Refuse by the header what would take too much memory. A JPEG is first told to decode no larger than needed."""
    width, height = image.size
    if min(width, height) < 1:
        raise _not_a_photo(name)
    if isinstance(image, JpegImageFile):
        coefficients = _coefficient_bytes(image, file)
        reduction = max(width, height) / PHOTO_PIXELS
        image.draft(None, (max(1, int(width / reduction)), max(1, int(height / reduction))))
        needed = coefficients + 4 * image.width * image.height
    else:
        needed = BYTES_PER_PIXEL[image.format or ""] * width * height
    if needed > DECODING_BYTES or width * height > HEADER_PIXELS:
        most = min(HEADER_PIXELS, DECODING_BYTES * width * height // needed) / 1e6
        raise _too_large(name, f"{width} x {height} pixels", f"{most:.0f} megapixels of such a file")


def _coefficient_bytes(image: JpegImageFile, file: BinaryIO) -> int:
    """What libjpeg keeps besides the picture: nothing, or two bytes per coefficient if colours come in several scans."""
    scan = 6 + 2 * image.layers  # length of the header of a scan that holds all colours; Pillow has just read the first
    place = file.tell()
    file.seek(max(0, place - scan - 2))
    first = file.read(5)
    file.seek(place)
    if first == b"\xff\xda" + scan.to_bytes(2, "big") + bytes([image.layers]) and not image.info.get("progressive"):
        return 0
    most = max(h for _, h, _, _ in image.layer) * max(v for _, _, v, _ in image.layer)
    return 2 * image.width * image.height * sum(h * v for _, h, v, _ in image.layer) // max(1, most)


def _small_rgb(image: Image.Image) -> Image.Image:
    """RGB of at most PHOTO_PIXELS, converted strip by strip."""
    factor = max(1, max(image.size) // PHOTO_PIXELS)
    colours = _to_srgb(image)
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced.paste(_rgb(strip, colours).reduce(factor), (0, top // factor))
    if (longer := max(reduced.size)) > PHOTO_PIXELS:
        size = (max(1, round(side * PHOTO_PIXELS / longer)) for side in reduced.size)
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


def _to_srgb(image: Image.Image) -> ImageCms.ImageCmsTransform | None:
    """The way from the embedded colour profile to sRGB; None where there is none, or it is damaged or of another kind."""
    embedded = image.info.get("icc_profile")
    if not embedded:
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(embedded))
        mode = PROFILE_MODES.get(profile.profile.xcolor_space)
        if mode != ("L" if image.mode[0] in "1LI" else "CMYK" if image.mode == "CMYK" else "RGB"):
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _upright(reduced: Image.Image, image: Image.Image) -> Image.Image:
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    except DAMAGED:  # damaged EXIF is no reason to refuse a photo
        return reduced
    return reduced if turn is None else reduced.transpose(turn)
