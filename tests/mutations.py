"""Damaged and hostile versions of a sound file, for tests of its reader. Seeded: equal arguments give equal mutations.

`mutations` knows nothing of a format. The others swap what a format holds: a value in JSON or TOML, an entry in the header
of a safetensors file. All give whole files as bytes.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

HEADER_BYTES = 4096  # bytes in which most formats say what follows; half of all changes are made there
DEEP, DIGITS, LONG = 100_000, 5_000, 100_000
HUGE = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)

# What a hostile file has where another value belongs, as it stands in JSON. Raw text: Python can say not all of it.
STRANGE_JSON = (
    *("null", "true", "false", "0", "-1", "1.5", "1e308", "1e999", "NaN", "Infinity", "-Infinity", "9" * DIGITS, "9" * 20),
    *('""', '"x"', '"\\ud800"', '"\\u0000"', '"../../x"', '"/dev/zero"', '"%s"' % ("x" * LONG), "[]", "{}", "[[]]", "[null]"),
    *(
        '{"": {}}',
        "[0, 1, 2]",
        '["x", "y"]',
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP + "0" + "}" * DEEP,
        "[%s0]" % ("0," * LONG),
    ),
)
STRANGE_TOML = (
    *("true", "false", "0", "-1", "1.5", "1e308", "nan", "inf", "-inf", "9" * DIGITS, "9" * 20, "1979-05-27", "07:32:00"),
    *('""', '"x"', '"\\u0000"', '"../../x"', '"/dev/zero"', '"%s"' % ("x" * LONG), "[]", "{}", "[[]]", "[0, 1, 2]"),
    *(
        '["x", "y"]',
        "{a = 1}",
        "[" * DEEP + "]" * DEEP,
        "{a=" * DEEP + "0" + "}" * DEEP,
        "[%s0]" % ("0," * LONG),
        "",
        '"',
        "'''",
    ),
)
DTYPES: tuple[Any, ...] = (
    "BOOL",
    "U8",
    "I8",
    "I16",
    "I32",
    "I64",
    "F8_E4M3",
    "F8_E5M2",
    "F16",
    "BF16",
    "F32",
    "F64",
    "C64",
    "X",
    "",
    5,
    None,
    [],
)
SHAPES: tuple[Any, ...] = (
    *([], [0], [1], [2**31], [2**62], [2**63 - 1], [2**64], [2**32, 2**32], [1] * 1000, [0, 2**62], [-1], [-1, -1], [1.5]),
    *(["x"], None, 7, "x", [[1]], {}),
)


def mutations(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """`count` versions of a file of any format: bits flipped, parts cut off, left out, doubled, overwritten or put in."""
    rng = random.Random(seed)
    for _ in range(count):
        changed = content
        for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
            changed = rng.choice(CHANGES)(changed, rng)
        yield changed


def json_mutations(value: Any, seed: int, count: int) -> Iterator[bytes]:
    """`count` JSON texts like the value's, each with one place replaced, left out, doubled, renamed or wrapped."""
    rng = random.Random(seed)
    for _ in range(count):
        place = rng.choice(list(_value_paths(value)))
        yield _json(_with_replacement(value, place, rng)).encode("utf-8", "surrogatepass")


def toml_mutations(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """`count` TOML texts like the content, each with the value of one line replaced, or a line left out, doubled or put in."""
    rng = random.Random(seed)
    lines = content.decode().splitlines()
    for _ in range(count):
        at, how = rng.randrange(len(lines)), rng.randrange(6)
        key, strange = lines[at].partition("=")[0], rng.choice(STRANGE_TOML)
        new = {0: [], 1: [lines[at]] * 2, 2: [lines[at], f"unknown = {strange}"]}.get(
            how, [f"{key.strip() or 'x'} = {strange}"]
        )
        yield "\n".join([*lines[:at], *new, *lines[at + 1 :]]).encode()


def tensor_mutations(content: bytes, seed: int, count: int) -> Iterator[bytes]:
    """`count` safetensors files like the content: dtype, shape, offsets or a text of the header swapped, or the numbers."""
    rng = random.Random(seed)
    length = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    for _ in range(count):
        names = sorted(header)
        name, changed, data = rng.choice(names), dict(header), body
        how = rng.randrange(8)
        if how == 0:  # one of the texts, which may be JSON of its own
            changed["__metadata__"] = _odd_metadata(header.get("__metadata__"), rng)
        elif how == 1:
            del changed[name]
        elif how == 2:
            changed[rng.choice(("x", "", "embeddings", "weights.x", "image_proj.", name + ".x"))] = changed.pop(name)
        elif how == 3:  # numbers that are none: all bits of an exponent set
            start = rng.randrange(0, max(len(body) - 8, 1), 4)
            data = body[:start] + b"\xff\xff\x7f\x7f\x00\x00\x80\x7f"[: len(body) - start] + body[start + 8 :]
        elif how == 4:  # an entry of its own, with a body to it: wholly sound safetensors, of another kind
            data, changed[name] = _tensor(body, rng)
        else:
            changed[name] = _odd_entry(header[name], rng)
        text = _json(changed).encode("utf-8", "surrogatepass")
        yield len(text).to_bytes(8, "little") + text + data


def _tensor(body: bytes, rng: random.Random) -> tuple[bytes, dict[str, Any]]:
    """A body with one more tensor at its end, and that tensor's entry: its bytes are as many as its shape says."""
    size, dtype = rng.choice(((1, "BOOL"), (1, "U8"), (2, "I16"), (4, "I32"), (8, "I64"), (8, "C64"), (8, "F64"), (2, "F16")))
    shape = rng.choice(([], [0], [1], [3, 5], [1, 2, 3, 4, 5]))
    count = size
    for side in shape:
        count *= side
    return body + b"\0" * count, {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + count]}


def _odd_entry(entry: Any, rng: random.Random) -> Any:
    key, values = rng.choice((("dtype", DTYPES), ("shape", SHAPES), ("data_offsets", HUGE)))
    if rng.random() < 0.1 or not isinstance(entry, dict):
        return Raw(rng.choice(STRANGE_JSON))
    value = rng.choice(values)
    return entry | {key: [value, rng.choice(HUGE)] if key == "data_offsets" else value}


def _odd_metadata(metadata: Any, rng: random.Random) -> Any:
    if not isinstance(metadata, dict) or rng.random() < 0.2:
        return Raw(rng.choice(STRANGE_JSON))
    key = rng.choice(sorted(metadata))
    try:
        inner = json.loads(metadata[key])
    except ValueError:
        return metadata | {key: Raw(rng.choice(STRANGE_JSON))}
    places = list(_value_paths(inner))
    return metadata | {key: _json(_with_replacement(inner, rng.choice(places), rng))}


class Raw(str):
    """Text that stands in JSON as it is, whatever it is."""

    __slots__ = ()


def _json(value: Any) -> str:
    """JSON, with what is Raw in it unquoted."""
    raw: list[str] = []

    def marked(each: Any) -> Any:
        if isinstance(each, Raw):
            raw.append(each)
            return f"\0{len(raw) - 1}\0"
        if isinstance(each, dict):
            return {name: marked(inner) for name, inner in each.items()}
        return [marked(inner) for inner in each] if isinstance(each, list) else each

    return re.sub(r'"\\u0000(\d+)\\u0000"', lambda found: raw[int(found[1])], json.dumps(marked(value)))


def _value_paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a value, itself first."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _value_paths(each, (*at, key))


def _with_replacement(value: Any, at: tuple[Any, ...], rng: random.Random) -> Any:
    if not at:
        return rng.choice(([value], {"x": value}, Raw(rng.choice(STRANGE_JSON))))
    key, rest = at[0], at[1:]
    if isinstance(value, list):
        doubled = rng.choice((1, 1, 1, 0, 2)) if not rest else 1
        return [*value[:key], *[_with_replacement(value[key], rest, rng)] * doubled, *value[key + 1 :]]
    how = rng.randrange(6) if not rest else 5
    without = {name: each for name, each in value.items() if name != key}
    if how == 0:
        return without
    if how == 1:
        return without | {rng.choice(("", "x", key + "x", key.upper())): value[key]}
    return value | {key: _with_replacement(value[key], rest, rng)}


def _random_offset(content: bytes, rng: random.Random) -> int:
    return rng.randrange(min(len(content), HEADER_BYTES) if rng.random() < 0.5 else len(content)) if content else 0


def _flip(content: bytes, rng: random.Random) -> bytes:
    at = _random_offset(content, rng)
    return content[:at] + bytes([byte ^ 1 << rng.randrange(8) for byte in content[at : at + 1]]) + content[at + 1 :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: _random_offset(content, rng)]


def _delete(content: bytes, rng: random.Random) -> bytes:
    at = _random_offset(content, rng)
    return content[:at] + content[at + rng.choice((1, 4, 100, 10_000)) :]


def _duplicate(content: bytes, rng: random.Random) -> bytes:
    at, size = _random_offset(content, rng), rng.choice((1, 4, 100, 10_000))
    return content[: at + size] + content[at:]


def _overwrite(content: bytes, rng: random.Random) -> bytes:
    at, size = _random_offset(content, rng), rng.choice((1, 2, 4, 8))
    value = (rng.choice(HUGE) % 256**size).to_bytes(size, rng.choice(("little", "big")))
    return content[:at] + value + content[at + size :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    at = _random_offset(content, rng)
    new: bytes = rng.choice((b"\0", b"\xff", b"\n", b'"', b"{", b"[", b"\xef\xbb\xbf", b"\xed\xa0\x80", rng.randbytes(100)))
    return content[:at] + new * rng.choice((1, 1, 50, 10_000 // len(new))) + content[at:]


def _replace_all(_: bytes, rng: random.Random) -> bytes:
    found: bytes = rng.choice((b"", b"\0" * 1000, b"[" * DEEP, b'{"a":' * DEEP, rng.randbytes(1000), b"\xff\xfe{\0}\0"))
    return found


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _flip, _flip, _flip, _cut, _cut, _delete, _duplicate, _overwrite, _overwrite, _insert, _insert),
    _replace_all,
)
