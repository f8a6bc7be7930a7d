"""What a file's marks say: a picture of tenth's with its marks, one that lost them or was changed since, or another's."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from enum import StrEnum
from io import BytesIO
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, read_bytes, reason
from tenth.core.marks.key import own_certificates
from tenth.core.marks.manifest import read_manifest
from tenth.core.marks.watermark import Watermark, current_watermark
from tenth.core.marks.xmp import GENERATOR, OUR_XMP

MAX_PICTURE_BYTES = 1 << 28  # more than the largest generated images have
MEDIA_TYPES = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
MANIFEST_STORE = b"jumdc2pa"  # in any file that has one
OUR_CLAIM = b"dnameetenth"  # in CBOR, the name of the program in a claim
OUR_SETTINGS = re.compile(rb"(tEXt|zTXt|iTXt)tenth\0")  # the text chunk of a PNG


class MarkState(StrEnum):
    """What `verify` finds."""

    MARKED = "marked"
    CHANGED = "changed"
    STRIPPED = "stripped"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Mark:
    """What a file says of itself. text: in a sentence. own_key: whether this user's own key signed it; False if nothing is."""

    state: MarkState
    text: str
    own_key: bool = False


def verify(path: str | Path) -> Mark:
    """Whether tenth made a picture, and whether it is as it was written: a PNG, or what became of it in JPEG or WebP.

    Nothing is fetched, and nothing is made: a user without a key stays without. Raises DataError if it is no such file.
    """
    path = Path(path)
    needed, action = "a PNG, JPEG or WebP is needed", "Choose another file"
    try:
        content = read_bytes(path, MAX_PICTURE_BYTES)
    except (OSError, UnreadableError) as problem:
        raise DataError(f"{path} {reason(problem)}", needed, action) from problem
    media_type = next((name for name, start in MEDIA_TYPES.items() if start.match(content)), None)
    if media_type is None:
        raise DataError(f"{path} is no PNG, JPEG or WebP" if content else f"{path} is empty", "a picture is needed", action)
    return _manifest_mark(content, media_type) or _remaining_mark(content, current_watermark())


def _manifest_mark(content: bytes, media_type: str) -> Mark | None:
    """What the manifests say; None if there is none of tenth's."""
    report = read_manifest(content, media_type, own_certificates())
    if report is None:
        if MANIFEST_STORE in content and OUR_CLAIM in content:
            return Mark(MarkState.CHANGED, "its manifest is damaged, or the file is cut off")
        return None
    active, *earlier = report.generators
    if active != GENERATOR:
        text = f"{active or 'another program'} wrote it anew, from a picture of tenth's"
        return Mark(MarkState.CHANGED, text) if GENERATOR in earlier else None
    if not (report.sound and report.made_by_model):
        return Mark(MarkState.CHANGED, "it is not as it was when tenth signed it")
    signer = "this user's key" if report.own else "another's key"
    return Mark(MarkState.MARKED, f"tenth made it, and it is unchanged; signed by {signer}", report.own)


def _remaining_mark(content: bytes, watermark: Watermark | None) -> Mark:
    """What is left of a picture of tenth's that has no manifest of its own."""
    signs = {"the XMP": OUR_XMP.search(content), "the settings": OUR_SETTINGS.search(content)}
    found = [name for name, match in signs.items() if match]
    if watermark is not None and _detects(watermark, content):
        found.append("the watermark")
    if found:
        return Mark(MarkState.STRIPPED, f"it has no manifest any more, but {' and '.join(found)} of tenth")
    return Mark(MarkState.FOREIGN, "nothing in it is a mark of tenth's")


def _detects(watermark: Watermark, content: bytes) -> bool:
    """Whether the watermark is in the pixels; False for a file that cannot be decoded."""
    import numpy as np
    from PIL import Image

    from tenth.core.files.decoder_errors import DECODER_ERRORS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content), formats=["PNG", "JPEG", "WEBP"]) as image:
                pixels = np.asarray(image.convert("RGB"))
    except (*DECODER_ERRORS, Image.DecompressionBombWarning):
        return False
    return watermark.detect(pixels)
