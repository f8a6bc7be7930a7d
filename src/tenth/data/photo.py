"""Open a photo safely: formats are detected by content, limits checked before decoding, the result is upright sRGB."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import threading
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from tenth.core.errors import PhotoError
from tenth.core.files.decoder_errors import DECODER_ERRORS
from tenth.core.files.reading import UnreadableError, open_regular
from tenth.core.types import Photo
from tenth.data.containers.heic import BRANDS, HeicImage
from tenth.data.containers.jpeg import parse_jpeg
from tenth.data.containers.orientation import orientation
from tenth.data.containers.parts import ImageParts, TooComplexError, parse_png, parse_webp

MAX_PHOTO_SIDE = 2048  # longest side of Photo.pixels: enough for a 1024 px crop of a face that fills half of it
MAX_FILE_BYTES = 100_000_000  # a 200-megapixel phone photo is about 60 MB
MAX_HEADER_PIXELS = 250_000_000  # no phone makes more; bounds the time that a small crafted file can cost
MAX_DECODE_BYTES = 300_000_000  # estimated from the header before decoding
PILLOW_BYTES_PER_PIXEL, WEBP_BYTES_PER_PIXEL = 4, 20  # while decoding; for WebP with the codec's buffers, measured
REDUCING_BYTES = 40_000_000  # for a strip, a copy reduced to MAX_PHOTO_SIDE, and its array
STRIP_PIXELS = 1 << 20  # converted to RGB at a time, so that a second full-size copy never exists
EXIF_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PROFILE_MODES = {"RGB ": "RGB", "CMYK": "CMYK", "GRAY": "L"}
FLOAT_LUT_TAGS = (b"D2B", b"B2D")  # profile tags with chains of arithmetic of any length, computed for each colour

_decode_lock = threading.Lock()  # Python's warning filters are global; and only one photo is decoded at a time

DecodableImage = Image.Image | HeicImage  # has size, mode and crop()


def open_photo(path: Path, max_side: int = MAX_PHOTO_SIDE, *, reduce: bool = True) -> Photo:
    """A photo as upright 8-bit sRGB; larger ones are reduced to `max_side` pixels on the longer side (box, then bicubic).

    reduce: False refuses larger ones instead, as too-large.
    Formats: JPEG, PNG, WebP and, with `pip install 'tenth[heic]'`, HEIC, detected by content. Transparent pixels are blended
    with white; an animation's first frame is used; EXIF orientation and colour profile are applied, and no metadata is kept.
    Takes under 300 MB and a few seconds for any file, except that a crafted lossless WebP can make libwebp allocate over a
    gigabyte for its tables, which is not known before decoding. Raises PhotoError with one of the codes: missing, folder,
    not-a-file, unreadable, empty, too-large, too-complex, not-a-photo, needs-heic, truncated.
    """
    _check_file(path)
    try:
        with open_regular(path, MAX_FILE_BYTES) as file, _decode_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is handled here, or does not matter to the user
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            decoded, transpose = _decode(file, path.name, max_side, reduce)
        # Without the lock: this takes several times as long as decoding, and leaves the GIL.
        reduced = _shrunk(decoded, max_side)
        pixels = np.array(reduced if transpose is None else reduced.transpose(transpose))  # (H, W, 3)
    except (OSError, UnreadableError) as error:
        raise _unreadable(path.name, error) from error
    except MemoryError as error:
        raise _too_large(path.name, "more pixels than this machine has memory for", "what fits") from error
    return Photo(pixels, digest, path.name)


def has_photo_signature(path: Path) -> bool:
    """Whether a file begins like one of the four formats. Opens only regular files."""
    try:
        with open_regular(path) as file:
            return _detect_format(file.read(16)) != ""
    except (OSError, UnreadableError):
        return False


def _check_file(path: Path) -> None:
    # stat first: opening a named pipe would block, and opening a device may have effects.
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
    if status.st_size > MAX_FILE_BYTES:
        raise _too_large(path.name, f"{status.st_size / 1e6:.0f} MB", f"{MAX_FILE_BYTES / 1e6:.0f} MB")


def _unreadable(name: str, error: OSError | UnreadableError) -> PhotoError:
    errno = isinstance(error, OSError) and error.errno
    why = os.strerror(errno) if errno else str(error) or type(error).__name__
    return PhotoError("unreadable", f"{name} cannot be read ({why})", "a readable file is needed", "Check its permissions")


def _too_large(name: str, found: str, limit: str) -> PhotoError:
    return PhotoError("too-large", f"{name} has {found}", f"at most {limit} can be opened safely", "Save a smaller copy of it")


def _decode(file: BinaryIO, name: str, max_side: int, reduce: bool) -> tuple[Image.Image, Image.Transpose | None]:
    """The photo in sRGB, of less than 2 * max_side pixels a side, and what turns it upright; nothing else stays in memory."""
    # Header and structure: refuse before decoding.
    try:
        image, parts = _open_image(file, name)
        if not reduce and max(image.size) > max_side:
            raise _too_large(name, f"{image.width} x {image.height} pixels", f"{max_side} pixels a side")
        _check_size(image, parts, name, max_side)
    except TooComplexError as error:
        found, action = f"{name} has {error.found}", "Save a copy of it with another program"
        raise PhotoError("too-complex", found, f"at most {error.limit} can be opened safely", action) from error
    except DECODER_ERRORS as error:
        raise _not_a_photo(name) from error

    # Decode and convert to sRGB.
    try:
        image.load()
        if isinstance(image, HeicImage) or parts is None:
            profile, exif_orientation = getattr(image, "icc_profile", b""), 1  # its decoder applies the orientation
        else:
            profile, exif_orientation = parts.icc_profile, orientation(parts.exif, parts.xmp)
        rgb = _box_reduced_rgb(image, _srgb_transform(profile, image.mode), max_side)
        return rgb, EXIF_TRANSPOSE.get(exif_orientation)
    except DECODER_ERRORS as error:
        found = f"{name} is cut short or damaged"
        raise PhotoError("truncated", found, "a whole photo is needed", "Copy or download it again") from error


def _not_a_photo(name: str) -> PhotoError:
    return PhotoError("not-a-photo", f"{name} is not a photo", "JPEG, PNG, WebP or HEIC is needed", "Save it as JPEG")


def _detect_format(head: bytes) -> str:
    """JPEG, PNG, WEBP, HEIF or '', from the first 16 bytes."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    return "HEIF" if head[4:8] == b"ftyp" and head[8:12] in BRANDS else ""


def _open_image(file: BinaryIO, name: str) -> tuple[DecodableImage, ImageParts | None]:
    # Not through Image.open: no other decoder may see the bytes (it opens an EPS named x.png as EPS), and it refuses
    # 200-megapixel JPEGs, which can be decoded at an eighth of their size.
    file.seek(0)
    format_name = _detect_format(file.read(16))
    if format_name == "HEIF":
        return _open_heic(file, name), None
    if format_name == "":
        raise _not_a_photo(name)
    parts = {"JPEG": parse_jpeg, "PNG": parse_png, "WEBP": parse_webp}[format_name](file)
    content: Any = parts.file
    if format_name != "WEBP":
        return (JpegImageFile if format_name == "JPEG" else PngImageFile)(content), parts
    # Before it is opened, which allocates whole frames.
    _check_memory(WEBP_BYTES_PER_PIXEL * parts.size[0] * parts.size[1] + content.length, parts.size, name)
    return WebPImageFile(io.BytesIO(content.readall())), parts


def _open_heic(file: BinaryIO, name: str) -> HeicImage:
    try:
        return HeicImage(file)
    except ImportError as error:
        found = f"{name} is a HEIC photo and pillow-heif is not installed"
        raise PhotoError("needs-heic", found, "HEIC needs it", "Run `pip install 'tenth[heic]'`, or save it as JPEG") from error


def _check_size(image: DecodableImage, parts: ImageParts | None, name: str, max_side: int) -> None:
    """Refuse an image whose header says that decoding would need too much memory. A JPEG is set to decode at a reduced size."""
    width, height = size = image.size
    if min(size) < 1:
        raise _not_a_photo(name)
    needed = REDUCING_BYTES + PILLOW_BYTES_PER_PIXEL * width * height
    if isinstance(image, HeicImage):
        needed = image.peak_decode_bytes
    elif isinstance(image, JpegImageFile):
        coefficients = _coefficient_bytes(image) if parts is None or parts.multi_scan else 0
        reduction = max(size) / max_side
        image.draft(None, (max(1, int(width / reduction)), max(1, int(height / reduction))))
        needed = REDUCING_BYTES + coefficients + PILLOW_BYTES_PER_PIXEL * image.width * image.height
    elif isinstance(image, WebPImageFile):
        return  # checked before it was opened
    _check_memory(needed, size, name)


def _check_memory(needed: int, size: tuple[int, int], name: str) -> None:
    width, height = size
    if needed > MAX_DECODE_BYTES or width * height > MAX_HEADER_PIXELS:
        max_megapixels = min(MAX_HEADER_PIXELS, MAX_DECODE_BYTES * width * height // max(1, needed)) / 1e6
        raise _too_large(name, f"{width} x {height} pixels", f"{max_megapixels:.0f} megapixels of such a file")


def _coefficient_bytes(image: JpegImageFile) -> int:
    """What libjpeg keeps beside the image if colours come in several scans: two bytes per coefficient."""
    max_blocks = max(h for _, h, _, _ in image.layer) * max(v for _, _, v, _ in image.layer)
    return 2 * image.width * image.height * sum(h * v for _, h, v, _ in image.layer) // max(1, max_blocks)


def _box_reduced_rgb(image: DecodableImage, transform: ImageCms.ImageCmsTransform | None, max_side: int) -> Image.Image:
    """RGB with less than twice `max_side` pixels a side, converted and reduced by a whole factor strip by strip."""
    factor = max(1, max(image.size) // max_side)
    if PILLOW_BYTES_PER_PIXEL * image.width * image.height * (1 + 1 / factor**2) > MAX_DECODE_BYTES - REDUCING_BYTES:
        factor += 1  # smaller than requested, to avoid two large copies in memory
    if factor == 1 and isinstance(image, JpegImageFile) and image.mode == "RGB" and transform is None:
        return image  # as it is: no strip has to be converted or reduced
    reduced = Image.new("RGB", (-(-image.width // factor), -(-image.height // factor)))
    rows = factor * max(1, STRIP_PIXELS // (image.width * factor))
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        reduced.paste(_convert_to_rgb(strip, transform).reduce(factor), (0, top // factor))
    return reduced


def _shrunk(image: Image.Image, max_side: int) -> Image.Image:
    if (longer := max(image.size)) <= max_side:
        return image
    width, height = (max(1, round(side * max_side / longer)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)  # two thirds of the time of Lanczos


def _convert_to_rgb(image: Image.Image, transform: ImageCms.ImageCmsTransform | None) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: convert() would clip at 255 instead of scaling
        image = Image.fromarray(((np.asarray(image).astype(np.uint32).clip(0, 65535) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if transform is None:
        return image.convert("RGB")
    return ImageCms.applyTransform(image.convert(transform.input_mode), transform) or image.convert("RGB")


def _srgb_transform(icc_profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from the embedded colour profile to sRGB; None if it is missing, damaged or does not fit `mode`."""
    if not icc_profile or any(
        icc_profile[place : place + 3] in FLOAT_LUT_TAGS for place in range(132, min(len(icc_profile), 132 + 12 * 100), 12)
    ):
        return None
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile))
        input_mode = PROFILE_MODES.get(profile.profile.xcolor_space)
        if input_mode != ("L" if mode[0] in "1LI" else "CMYK" if mode == "CMYK" else "RGB"):
            return None
        return ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), input_mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
