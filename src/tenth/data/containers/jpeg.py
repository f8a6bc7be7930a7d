"""Parse a JPEG's segments: keep what its image needs, separate the metadata, count the scans. See parts.py for why."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, repeat
from typing import BinaryIO

from tenth.data.containers.parts import (
    MAX_PARTS,
    MAX_PROFILE_BYTES,
    MAX_READ_BYTES,
    ImageParts,
    Piece,
    SplicedFile,
    TooComplexError,
    merge_adjacent,
    read_at,
    too_many_parts,
)

MAX_SCANS = 100  # encoders write about ten; each costs time for all blocks, though it may have few bytes
MAX_SCAN_PIXELS = 2_500_000_000  # pixels times scans: two seconds of work
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # without stuffed zeros, fill bytes and restarts, which are part of a scan
START_OF_FRAME = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # without lossless and hierarchical frames, which no photo has
PROGRESSIVE = {0xC2, 0xCA}
TABLES = {0xC4, 0xCC, 0xDB, 0xDC, 0xDD}  # Huffman, arithmetic, quantization, lines, restarts
START_OF_SCAN, END_OF_IMAGE, COMMENT = 0xDA, 0xD9, 0xFE
JFIF, EXIF_OR_XMP, PROFILE, ADOBE = 0xE0, 0xE1, 0xE2, 0xEE
EXIF_KEY, PROFILE_KEY = b"Exif\0\0", b"ICC_PROFILE\0"
XMP_KEY = b"http:" + b"//ns.adobe" + b".com/xap/1.0/\0"  # a namespace, in pieces for the test that finds host names


def parse_jpeg(file: BinaryIO) -> ImageParts:
    """Tables, frame and scans of a JPEG. Raises TooComplexError, or ValueError if it has none of them."""
    # Segments up to the first scan.
    pieces: list[Piece] = [(0, 2)]
    metadata: dict[bytes, list[bytes]] = {EXIF_KEY: [], XMP_KEY: [], PROFILE_KEY: []}
    frame, num_components, progressive = b"", 0, False
    segments = _segments(file)
    for code, start, stop in segments:
        head = read_at(file, start + 2, min(stop, start + 40))
        if code == START_OF_SCAN:
            break
        if code in START_OF_FRAME:
            frame, progressive = head, code in PROGRESSIVE
        elif code in (EXIF_OR_XMP, PROFILE):
            _collect_metadata(metadata, file, start + 2, stop)
        if (
            code in START_OF_FRAME | TABLES
            or (code == JFIF and head[:4] == b"JFIF")
            or (code == ADOBE and head[:5] == b"Adobe")
        ):
            pieces.append((start - 2, stop))
        elif not (JFIF <= code <= 0xEF or code == COMMENT):
            raise ValueError(f"a JPEG with the marker {code:x}")
    else:
        raise ValueError("a JPEG without a scan")
    if len(frame) < 6:
        raise ValueError("a JPEG without a frame")

    # The rest of the file is scans, which are only counted.
    num_components, size = frame[5], (int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"))
    if multi_scan := progressive or head[0] < num_components:
        _check_scans(segments, size)
    pieces.append((start - 2, file.seek(0, 2)))
    exif, xmp = (b"".join(metadata[key][:1]) for key in (EXIF_KEY, XMP_KEY))
    return ImageParts(
        SplicedFile(file, merge_adjacent(pieces)), size, _join_profile(metadata[PROFILE_KEY]), exif, xmp, multi_scan
    )


def _segments(file: BinaryIO) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end (of length and content) of each segment up to the end of the image."""
    offset = 2
    for _ in range(MAX_PARTS):
        code, offset = _next_marker(file, offset)
        if code < 0xC0:  # reserved: decoders skip it, as it has no length
            continue
        length = int.from_bytes(read_at(file, offset, offset + 2), "big")
        if code == END_OF_IMAGE or length < 2:
            return
        yield code, offset, offset + length
        offset += length
    raise too_many_parts("segments")


def _next_marker(file: BinaryIO, offset: int) -> tuple[int, int]:
    """The next marker and the offset after it, or (END_OF_IMAGE, offset). Bytes before it are skipped, as decoders do."""
    for count in chain([64], repeat(MAX_READ_BYTES)):
        chunk = read_at(file, offset, offset + count)
        if match := MARKER.search(chunk):
            return chunk[match.end() - 1], offset + match.end()
        if len(chunk) < count:
            break
        offset += len(chunk) - 1
    return END_OF_IMAGE, offset


def _collect_metadata(metadata: dict[bytes, list[bytes]], file: BinaryIO, start: int, stop: int) -> None:
    content = read_at(file, start, stop)
    for key, values in metadata.items():
        if content.startswith(key) and sum(map(len, values)) <= (MAX_PROFILE_BYTES if key == PROFILE_KEY else 0):
            values.append(content[len(key) :])


def _join_profile(pieces: list[bytes]) -> bytes:
    """A colour profile from its numbered pieces; b'' if one is missing."""
    ordered = sorted(piece for piece in pieces if len(piece) > 1)
    profile = b"".join(piece[2:] for piece in ordered)
    return profile if ordered and ordered[0][1] == len(ordered) and len(profile) <= MAX_PROFILE_BYTES else b""


def _check_scans(segments: Iterator[tuple[int, int, int]], size: tuple[int, int]) -> None:
    """Raises TooComplexError for more scans than an image of that size may have. The first was read already."""
    max_scans = min(MAX_SCANS, MAX_SCAN_PIXELS // max(1, size[0] * size[1]))
    count = 1
    for code, _, _ in segments:
        count += code == START_OF_SCAN
        if count > max_scans:
            raise TooComplexError(f"more than {max_scans} scans", f"{max_scans}")
