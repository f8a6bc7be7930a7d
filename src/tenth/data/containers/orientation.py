"""The orientation of a photo, from its EXIF or else its XMP."""

from __future__ import annotations

import re
from typing import Literal

ORIENTATION, SHORT, LONG = 0x0112, 3, 4  # a tag, and two types of numbers
XMP_TAG = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")


def orientation(exif: bytes, xmp: bytes) -> int:
    """EXIF's orientation, 1 (upright) to 8. Damaged metadata is ignored.

    Pillow is not used: it reads all values of all entries first, and a thousand entries may point at the same megabyte.
    Source: TIFF 6.0, sections 2 and 8 (Orientation).
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if exif[:2] == b"II" else "big"

    def number(place: int, count: int) -> int:
        return int.from_bytes(exif[place : place + count], order)

    if exif[:2] in (b"II", b"MM") and number(2, 2) == 42:
        first = number(4, 4)
        for entry in range(first + 2, min(len(exif), first + 2 + 12 * number(first, 2)), 12):
            kind, value = number(entry + 2, 2), entry + 8
            if number(entry, 2) == ORIENTATION and kind in (SHORT, LONG):
                return number(value, 2 if kind == SHORT else 4)
    found = XMP_TAG.search(xmp)
    return int(found[1]) if found else 1
