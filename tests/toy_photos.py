"""Photo files written chunk by chunk and box by box, for what no encoder writes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

from PIL import Image

PNG_HEAD, PNG_END = b"\x89PNG\r\n\x1a\n", b"\0\0\0\0IEND\xaeB`\x82"


def encode_image(image: Image.Image, file_format: str, **settings: object) -> bytes:
    """An image as a file of that kind; HEIF needs pillow-heif."""
    if file_format == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    file = io.BytesIO()
    image.save(file, file_format, **settings)
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes = b"") -> bytes:
    """A chunk with its length and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_file(size: tuple[int, int], before: bytes = b"", data: bytes | None = None, after: bytes = b"") -> bytes:
    """Black RGB; chunks before the picture's data, other data than its own, chunks after it."""
    width, height = size
    if data is None:
        packer = zlib.compressobj()
        rows = [packer.compress(bytes(1 + 3 * width)) for _ in range(height)]
        data = png_chunk(b"IDAT", b"".join([*rows, packer.flush()]))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return PNG_HEAD + header + before + data + after + PNG_END


def jpeg_segment(code: int, content: bytes = b"") -> bytes:
    """A segment with its marker and length."""
    return bytes([0xFF, code]) + struct.pack(">H", len(content) + 2) + content


def riff_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of WebP, filled up to an even length."""
    return kind + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def webp_file(*chunks: bytes) -> bytes:
    """A WebP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_canvas(flags: int, width: int, height: int) -> bytes:
    """The chunk that says how large the picture is and what else there is."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides)


def heic_tile(image: Image.Image) -> tuple[bytes, bytes]:
    """(settings, data) of a picture as HEVC: its box hvcC and what stands in mdat."""
    content = encode_image(image, "HEIF")
    settings = content.index(b"hvcC") - 4
    length = struct.unpack(">I", content[settings : settings + 4])[0]
    return content[settings : settings + length], content[content.index(b"mdat") + 4 :]


def heic_file(
    items: Sequence[tuple[int, bytes, bytes | int, Sequence[int]]],
    properties: Sequence[bytes],
    references: Sequence[tuple[bytes, int, Sequence[int]]] = (),
) -> bytes:
    """A HEIC of items (number, type, data or the item whose data it shares, numbers of properties); item 1 is the picture."""
    places: dict[int, tuple[int, int]] = {}
    body = b""
    for number, _, data, _ in items:
        if isinstance(data, bytes):
            places[number] = (len(body), len(data))
            body += data
    places |= {number: places[data] for number, _, data, _ in items if isinstance(data, int)}
    entries = b"".join(_full(b"infe", struct.pack(">HH4s", number, 0, kind) + b"\0", 2) for number, kind, _, _ in items)
    tied = b"".join(struct.pack(">HB", number, len(tied)) + bytes(tied) for number, _, _, tied in items)
    refers = b"".join(_box(kind, struct.pack(f">HH{len(to)}H", source, len(to), *to)) for kind, source, to in references)
    fixed = [
        _full(b"hdlr", bytes(4) + b"pict" + bytes(13)),
        _full(b"pitm", struct.pack(">H", 1)),
        _full(b"iinf", struct.pack(">H", len(items)) + entries),
        _box(b"iprp", _box(b"ipco", b"".join(properties)) + _full(b"ipma", struct.pack(">I", len(items)) + tied)),
        *([_full(b"iref", refers)] if refers else []),
    ]

    def head(base: int) -> bytes:
        located = b"".join(struct.pack(">HHHII", number, 0, 1, base + start, size) for number, (start, size) in places.items())
        place = _full(b"iloc", struct.pack(">BBH", 0x44, 0, len(items)) + located)
        return _box(b"ftyp", b"heic\0\0\0\0mif1heic") + _full(b"meta", b"".join([*fixed, place]))

    return head(len(head(0)) + 8) + _box(b"mdat", body)


def heic_extent(width: int, height: int) -> bytes:
    """The property that says how large a picture is."""
    return _full(b"ispe", struct.pack(">II", width, height))


def heic_grid(image: Image.Image, columns: int, rows: int) -> bytes:
    """A HEIC as telephones write them, of tiles, all of which show the image: large, but encoded at once."""
    settings, data = heic_tile(image)
    size, tiles = (columns * image.width, rows * image.height), range(2, 2 + columns * rows)
    grid = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, *size)
    items = [(1, b"grid", grid, [3]), *((tile, b"hvc1", data if tile == 2 else 2, [0x81, 2]) for tile in tiles)]
    return heic_file(items, [settings, heic_extent(*image.size), heic_extent(*size)], [(b"dimg", 1, list(tiles))])


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def _full(kind: bytes, content: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + content)
