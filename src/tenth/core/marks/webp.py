"""WebP with the marks of our PNGs: XMP, and a signed C2PA manifest. Equal pixels and texts give equal bytes, with one key."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING

from tenth.core.marks.jumbf import with_fixed_salts
from tenth.core.marks.manifest import ED25519, sign_image
from tenth.core.marks.png import with_watermark
from tenth.core.marks.signer import current_signer
from tenth.core.marks.xmp import XMP

if TYPE_CHECKING:
    from PIL.Image import Image

MANIFEST_CHUNK, FIRST_CHUNK = b"C2PA", 12  # of RIFF; the bytes before the first chunk
USER_COMMENT = 0x9286  # of EXIF, in its own part at 0x8769: where A1111 keeps the parameters of a WebP
EXIF_PART = 0x8769


def encode_webp(image: Image, parameters: str) -> bytes:
    """A lossless WebP of the same pixels, marked. parameters: its text, as A1111 has it. Raises as `current_signer`."""
    from PIL.Image import Exif

    exif, content, signer = Exif(), BytesIO(), current_signer()
    exif.get_ifd(EXIF_PART)[USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
    marks = {} if signer is None else {"xmp": XMP}
    with_watermark(image).save(content, format="WEBP", lossless=True, exact=True, exif=exif.tobytes(), **marks)
    if signer is None:
        return content.getvalue()

    # c2pa signs with random salts, which are replaced as in a PNG.
    signed = sign_image(content.getvalue(), signer, "image/webp")
    place = _find_chunk(signed, MANIFEST_CHUNK)
    if signer.algorithm != ED25519 or place is None:
        return signed
    start, end = place
    return signed[:start] + with_fixed_salts(signed[start:end], signer.sign) + signed[end:]


def _find_chunk(content: bytes, kind: bytes) -> tuple[int, int] | None:
    """Start and end of the data of the first chunk of a kind, or None."""
    position = FIRST_CHUNK
    while position + 8 <= len(content):
        found, length = struct.unpack("<4sI", content[position : position + 8])
        if found == kind:
            return position + 8, position + 8 + length
        position += 8 + length + length % 2
    return None
