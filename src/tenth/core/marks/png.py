"""The one way by which PNGs are written: those that a model made say so, in XMP and in a signed C2PA manifest."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.files.writing import write_if_changed
from tenth.core.marks.jumbf import with_fixed_salts
from tenth.core.marks.manifest import ED25519, sign_image
from tenth.core.marks.signer import Signer, current_signer
from tenth.core.marks.watermark import current_watermark
from tenth.core.marks.xmp import XMP

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

SIGNATURE = b"\x89PNG\r\n\x1a\n"
AFTER_HEADER = 33  # bytes: the signature and IHDR, which is always first
XMP_KEYWORD = b"XML:com.adobe.xmp\0\0\0\0\0"  # and the fields of an iTXt chunk: not compressed, no language
MANIFEST_CHUNK = b"caBX"


def write_png(path: str | Path, image: Image, info: PngInfo | None = None, *, photo: bool = False) -> None:
    """As `write_if_changed`: a marked PNG with text chunks. Equal pixels and texts give equal bytes, with the same key.

    photo: these are pixels of a real photo, which no mark may call a model's.
    """
    write_if_changed(path, encode_png(image, info, photo=photo))  # encoded first: Pillow names neither a full disk nor a file


def encode_png(image: Image, info: PngInfo | None = None, *, photo: bool = False) -> bytes:
    """As `write_png`, in memory. Raises as `current_signer`."""
    content = BytesIO()
    (image if photo else with_watermark(image)).save(content, format="PNG", pnginfo=info)
    return content.getvalue() if photo else mark_png(content.getvalue())


def with_watermark(image: Image) -> Image:
    """The image with the watermark in its pixels, where there is one."""
    watermark = current_watermark()
    if watermark is None:
        return image
    import numpy as np
    from PIL.Image import fromarray

    return fromarray(watermark.embed(np.asarray(image.convert("RGB"))))


def mark_png(content: bytes, signer: Signer | None = None) -> bytes:
    """A PNG with both marks: the same pixels and texts. One that has a manifest already stays as it is.

    signer: else that of `current_signer`; a PNG stays as it is where that is None. Raises ValueError if it is no PNG, DataError
    if the signer's certificates are none that C2PA takes.
    """
    signer = signer or current_signer()
    if signer is None or find_chunk(content, MANIFEST_CHUNK) is not None:
        return content
    with_xmp = content[:AFTER_HEADER] + _chunk(b"iTXt", XMP_KEYWORD + XMP) + content[AFTER_HEADER:]
    signed = sign_image(with_xmp, signer)
    place = find_chunk(signed, MANIFEST_CHUNK)
    if signer.algorithm != ED25519 or place is None:
        return signed
    start, end = place
    store = with_fixed_salts(signed[start:end], signer.sign)
    return signed[: start - 8] + _chunk(MANIFEST_CHUNK, store) + signed[end + 4 :]


def find_chunk(content: bytes, kind: bytes) -> tuple[int, int] | None:
    """Start and end of the data of the first chunk of a kind, or None. Raises ValueError if it is no whole PNG."""
    position = len(SIGNATURE)
    if not content.startswith(SIGNATURE):
        raise ValueError("no PNG")
    while position < len(content):
        if position + 12 > len(content):
            raise ValueError("a chunk is cut off")
        length, found = struct.unpack(">I4s", content[position : position + 8])
        if found == kind:
            return position + 8, position + 8 + length
        position += 12 + length
    return None


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
