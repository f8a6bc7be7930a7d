"""Find the parts of a PNG or WebP that its first image needs, before any decoder reads it.

A decoder reads, unpacks and keeps everything in a file, so a small file can cost minutes or gigabytes without more pixels:
compressed texts, millions of empty chunks, thousands of frames, repeated EXIF. Decoders therefore get only the parts of the
first image. Colour profile, EXIF and XMP are extracted up to a size. The alternative, a separate process with limits, was
rejected: what it refuses depends on the machine and its load, and Windows has no such limits.
"""

from __future__ import annotations

import io
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import BinaryIO

MAX_PARTS = 100_000  # chunks or segments, read in 0.1 s; a photo of 100 MB has about ten thousand
MAX_PROFILE_BYTES = 4_000_000  # printing profiles have up to 3 MB
MAX_METADATA_BYTES = 1_000_000  # of EXIF or XMP
MAX_READ_BYTES = 1 << 20  # at most, from one read()
PNG_IMAGE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS")
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
PNG_XMP = b"XML:com.adobe.xmp\0"
WEBP_ANIMATED, WEBP_ALPHA = 0x02, 0x10  # flags of VP8X
WEBP_IMAGE_CHUNKS = (b"VP8 ", b"VP8L")

Piece = tuple[int, int] | bytes  # start and end in the file, or literal bytes


class TooComplexError(Exception):
    """A file costs too much work for its pixels. found: what it has. limit: what can be opened safely."""

    def __init__(self, found: str, limit: str) -> None:
        super().__init__(found)
        self.found, self.limit = found, limit


class SplicedFile(io.RawIOBase):
    """A read-only file that is the concatenation of pieces of another file and of literal bytes."""

    def __init__(self, file: BinaryIO, pieces: Sequence[Piece]) -> None:
        self._file, self._pieces = file, pieces
        self._ends = list(accumulate(len(each) if isinstance(each, bytes) else each[1] - each[0] for each in pieces))
        self._offset = 0
        self.length = self._ends[-1] if self._ends else 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._offset

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset, io.SEEK_END: self.length}[whence]
        self._offset = max(0, base + offset)
        return self._offset

    def read(self, size: int = -1, /) -> bytes:
        """At most MAX_READ_BYTES at once: a decoder that skips the rest of a chunk requests all of it."""
        pieces, remaining = [], MAX_READ_BYTES if size < 0 else min(size, MAX_READ_BYTES)
        while remaining > 0 and (piece := self._next_piece(remaining)):
            pieces.append(piece)
            remaining -= len(piece)
            self._offset += len(piece)
        return b"".join(pieces)

    def _next_piece(self, max_bytes: int) -> bytes:
        index = bisect_right(self._ends, self._offset)
        if index == len(self._ends):
            return b""
        piece, remaining = self._pieces[index], self._ends[index] - self._offset
        if isinstance(piece, bytes):
            return piece[len(piece) - remaining :][:max_bytes]
        return read_at(self._file, piece[1] - remaining, piece[1] - remaining + min(remaining, max_bytes))


@dataclass(frozen=True, eq=False)
class ImageParts:
    """file: for the decoder, only what the image needs. icc_profile, exif, xmp: b'' if missing or too large.

    size: width and height from the header. multi_scan: whether a JPEG has its colours in several scans.
    """

    file: SplicedFile
    size: tuple[int, int]
    icc_profile: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    multi_scan: bool = False


def parse_png(file: BinaryIO) -> ImageParts:
    """Header, palette, transparency and the first run of image data of a PNG. Raises TooComplexError."""
    # Keep image chunks, extract metadata, skip all others.
    pieces: list[Piece] = [(0, 8)]
    found: dict[bytes, bytes] = {}
    data = False
    for kind, start, stop in _chunks(file, 8, png=True):
        if kind == b"IDAT":
            data = True
        elif data:  # the image is complete; texts or animation frames may follow
            pieces.append(PNG_END)
            break
        elif kind in found or kind not in (*PNG_IMAGE_CHUNKS, b"iCCP", b"eXIf", b"iTXt"):
            continue
        elif kind not in PNG_IMAGE_CHUNKS:
            if kind != b"iTXt" or read_at(file, start, start + len(PNG_XMP)) == PNG_XMP:
                found[kind] = _png_content(kind, read_at(file, start, min(stop, start + MAX_PROFILE_BYTES)))
            continue
        found[kind] = kind
        pieces.append((start - 8, stop + 4))

    header = read_at(file, 16, 24)
    size = (int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big"))
    profile, exif, xmp = (found.get(kind, b"") for kind in (b"iCCP", b"eXIf", b"iTXt"))
    return ImageParts(SplicedFile(file, merge_adjacent(pieces)), size, profile, exif, xmp)


def parse_webp(file: BinaryIO) -> ImageParts:
    """The first image of a WebP as a file of its own. Raises TooComplexError, ValueError."""
    # The first chunk of each kind.
    chunks: dict[bytes, tuple[int, int]] = {}
    for kind, start, stop in _chunks(file, 12, png=False):
        chunks.setdefault(kind, (start, stop))
        if kind in WEBP_IMAGE_CHUNKS and b"VP8X" not in chunks:
            break  # the simple layout: one chunk

    # A new file: extended header, then the first frame of an animation, or the image.
    header = read_at(file, *chunks[b"VP8X"])[:10] if b"VP8X" in chunks else b""
    pieces: list[Piece] = []
    if header:
        pieces.append(_riff_chunk(b"VP8X", bytes([header[0] & (WEBP_ANIMATED | WEBP_ALPHA)]) + header[1:]))
    if header and header[0] & WEBP_ANIMATED and {b"ANIM", b"ANMF"} <= chunks.keys():
        start, stop = chunks[b"ANMF"]
        inner = _chunks(file, start + 16, png=False, end=stop)
        frame = _webp_image_spans({kind: (first, last) for kind, first, last in inner})
        length = 16 + sum(last - first for first, last in frame)
        pieces += [_riff_chunk(b"ANIM", read_at(file, *chunks[b"ANIM"])[:6])]
        pieces += [b"ANMF" + length.to_bytes(4, "little") + read_at(file, start, start + 16), *frame]
    else:
        pieces += _webp_image_spans(chunks)

    riff = b"RIFF" + (SplicedFile(file, pieces).length + 4).to_bytes(4, "little") + b"WEBP"
    spans = (chunks.get(kind, (0, 0)) for kind in (b"ICCP", b"EXIF", b"XMP "))
    profile, exif, xmp = (read_at(file, *span) if span[1] - span[0] <= MAX_PROFILE_BYTES else b"" for span in spans)
    return ImageParts(SplicedFile(file, [riff, *pieces]), _webp_size(file, header, chunks), profile, exif, xmp)


def merge_adjacent(pieces: Sequence[Piece]) -> list[Piece]:
    """The same pieces, with adjacent ones of the file merged."""
    merged: list[Piece] = []
    for piece in pieces:
        last = merged[-1] if merged else b""
        if isinstance(piece, tuple) and isinstance(last, tuple) and last[1] == piece[0]:
            merged[-1] = (last[0], piece[1])
        else:
            merged.append(piece)
    return merged


def read_at(file: BinaryIO, start: int, stop: int) -> bytes:
    """The bytes from start to stop; fewer at the end of the file."""
    file.seek(start)
    return file.read(max(0, stop - start))


def too_many_parts(kind: str) -> TooComplexError:
    """The error for a file of more than MAX_PARTS chunks or segments."""
    return TooComplexError(f"more than {MAX_PARTS:,} {kind}", f"{MAX_PARTS:,}")


def _chunks(file: BinaryIO, offset: int, *, png: bool, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of each chunk of a PNG, else of a RIFF file, from the offset on."""
    for _ in range(MAX_PARTS):
        head, start = read_at(file, offset, offset + 8), offset + 8
        kind, length = (head[4:], int.from_bytes(head[:4], "big")) if png else (head[:4], int.from_bytes(head[4:], "little"))
        if len(head) < 8 or (png and not kind.isalpha()) or (end is not None and start > end):
            return
        yield kind, start, start + length
        offset = start + length + (4 if png else length % 2)  # a checksum, or padding
    raise too_many_parts("chunks")


def _png_content(kind: bytes, chunk: bytes) -> bytes:
    """The profile, EXIF or XMP in a chunk, decompressed up to its limit."""
    if kind == b"eXIf":
        return chunk if len(chunk) <= MAX_METADATA_BYTES else b""
    if kind == b"iCCP":
        return _inflate(chunk.partition(b"\0")[2][1:], MAX_PROFILE_BYTES)
    packed, text = chunk[len(PNG_XMP) :][:1] == b"\1", chunk[len(PNG_XMP) + 2 :].split(b"\0", 2)[-1]
    return _inflate(text, MAX_METADATA_BYTES) if packed else text[:MAX_METADATA_BYTES]


def _inflate(compressed: bytes, max_bytes: int) -> bytes:
    unpack = zlib.decompressobj()
    try:
        content = unpack.decompress(compressed, max_bytes)
    except zlib.error:
        return b""
    return b"" if unpack.unconsumed_tail else content


def _riff_chunk(kind: bytes, content: bytes) -> bytes:
    return kind + len(content).to_bytes(4, "little") + content


def _webp_image_spans(chunks: dict[bytes, tuple[int, int]]) -> list[tuple[int, int]]:
    """Start and end of the alpha and image chunks, with their headers and padding."""
    spans = [chunks[kind] for kind in (b"ALPH", *WEBP_IMAGE_CHUNKS) if kind in chunks][:2]
    return [(start - 8, stop + (stop - start) % 2) for start, stop in spans]


def _webp_size(file: BinaryIO, header: bytes, chunks: dict[bytes, tuple[int, int]]) -> tuple[int, int]:
    if header:
        return int.from_bytes(header[4:7], "little") + 1, int.from_bytes(header[7:10], "little") + 1
    kind = next((each for each in WEBP_IMAGE_CHUNKS if each in chunks), None)
    if kind is None:
        raise ValueError("a WebP without a picture")
    content = read_at(file, chunks[kind][0], chunks[kind][0] + 10)
    if kind == b"VP8 ":
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    bits = int.from_bytes(content[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
