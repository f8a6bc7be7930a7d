"""Open a HEIC photo in bounded memory: the primary image only, read row by row from the decoder's buffer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from tenth.data.containers.parts import TooComplexError, read_at

BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
MAX_BOXES = 10_000  # at the top level of the file; a photo has three
HIDDEN_FLAG = 1  # of an item that is not displayed
MAX_META_BYTES = 16_000_000  # of the meta box; with a printing profile it has 3 MB


class HeicImage:
    """A HEIC photo, decoded by `load`. size: width and height, upright. icc_profile: its colour profile, or b''.

    Only the primary image is decoded, without metadata: the binding copies profile and EXIF once for every image of a file, and
    a thousand images may share one of 50 MB. The decoder applies the orientation, as the format requires.
    Raises what the binding does (OSError, ValueError, SyntaxError, RuntimeError, EOFError), and ImportError without it.
    """

    def __init__(self, file: BinaryIO) -> None:
        from pillow_heif import open_heif

        content = primary_image_only(file)
        self._image = open_heif(content, convert_hdr_to_8bit=True, remove_stride=False, hdr_to_16bit=True)
        self.size: tuple[int, int] = self._image.size
        self.width, self.height = self.size
        self.mode: str = self._image.mode
        self.icc_profile: bytes = self._image.info.get("icc_profile") or b""
        self.file_bytes = len(content)

    @property
    def peak_decode_bytes(self) -> int:
        """Peak memory of decoding: the file, the luma and chroma planes, and the result."""
        info, bands = self._image.info, len(self.mode)
        planes = (1.5 if info.get("chroma") == 420 else bands) + (bands == 4)
        return self.file_bytes + int(self.width * self.height * (planes * (1 + (info.get("bit_depth", 16) > 8)) + bands + 0.2))

    def load(self) -> None:
        """Decode it."""
        self._rows = memoryview(self._image.data)
        self.size = self.width, self.height = self._image.size

    def crop(self, box: tuple[int, int, int, int]) -> Image.Image:
        """A part of the decoded image, as a Pillow image."""
        left, top, right, bottom = box
        stride = self._image.stride
        rows = self._rows[top * stride : bottom * stride]
        strip = Image.frombytes(self.mode, (self.width, bottom - top), rows, "raw", (self.mode, stride))
        return strip if (left, right) == (0, self.width) else strip.crop((left, 0, right, bottom - top))


def primary_image_only(file: BinaryIO) -> bytes:
    """A file's content with all images but the primary one hidden, and all metadata unlinked. Raises TooComplexError.

    Layout: ISO/IEC 14496-12, sections 4.2 (boxes) and 8.11 (meta, pitm, iinf, infe, iref).
    """
    size, offset, pieces = file.seek(0, 2), 0, []
    for _ in range(MAX_BOXES):
        head = read_at(file, offset, offset + 16)
        length, box_type = int.from_bytes(head[:4], "big"), head[4:8]
        length = int.from_bytes(head[8:], "big") if length == 1 else length or size - offset
        if len(head) < 8 or length < 8:
            break
        if box_type == b"meta" and length > MAX_META_BYTES:
            raise TooComplexError(f"{length / 1e6:.0f} MB of descriptions of its pictures", f"{MAX_META_BYTES / 1e6:.0f} MB")
        content = read_at(file, offset, min(size, offset + length))
        pieces.append(_hide_other_images(content) if box_type == b"meta" else content)
        offset += length
    return b"".join([*pieces, read_at(file, offset, size)])


def _hide_other_images(meta: bytes) -> bytes:
    edited = bytearray(meta)
    boxes = list(_boxes(edited, 12, len(edited)))
    primary = next((_item_id(edited, start + 4, edited[start] > 0) for kind, start, _ in boxes if kind == b"pitm"), 0)
    for kind, start, stop in boxes:
        if kind == b"iref":
            # "Content describes" is the link of EXIF to its image.
            edited[start:stop] = edited[start:stop].replace(b"cdsc", b"none")
        elif kind == b"iinf":
            for each, entry, _ in _boxes(edited, start + (8 if edited[start] else 6), stop):
                if each == b"infe" and _item_id(edited, entry + 4, edited[entry] > 2) != primary:
                    edited[entry + 3] |= HIDDEN_FLAG
    return bytes(edited)


def _boxes(content: bytearray, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each box's content."""
    while offset + 12 <= end:
        length = int.from_bytes(content[offset : offset + 4], "big")
        if length < 12 or offset + length > end:
            return
        yield bytes(content[offset + 4 : offset + 8]), offset + 8, offset + length
        offset += length


def _item_id(content: bytearray, offset: int, wide: bool) -> int:
    return int.from_bytes(content[offset : offset + (4 if wide else 2)], "big")
