"""Files read with suspicion: only a regular file (never a device, a pipe or a folder), up to a stated size.

JSON and TOML are read up to a depth, and numbers are numbers. What fails raises UnreadableError, whose text says what was
found; the caller, who knows what the file is for, turns it into an error that says what is needed and what to do.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import tomllib
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from torch import Tensor

TEXT_BYTES = 32 << 20  # most that is read of a JSON, TOML or text file
TENSOR_BYTES = 64 << 30  # most that a file of weights may hold; the largest published ones have about 20 GB
DEPTH = 64  # lists and tables inside one another
CHUNK = 1 << 20


class UnreadableError(ValueError):
    """A file is not what can be read safely. Its text says what was found, without the path."""


def open_regular(path: str | Path, most: int = TENSOR_BYTES) -> BufferedReader:
    """A regular file of at most `most` bytes, open for reading. Raises UnreadableError, FileNotFoundError or another OSError.

    A pipe or a device is refused without waiting for it: opened without blocking, looked at, closed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise UnreadableError("is a link that leads back to itself") from problem
        raise
    except ValueError as problem:
        raise UnreadableError("has a name that no file can have") from problem
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise UnreadableError("is a folder" if stat.S_ISDIR(state.st_mode) else "is a pipe or a device, not a file")
    if state.st_size > most:
        os.close(descriptor)
        raise UnreadableError(f"has {_size(state.st_size)}, more than the {_size(most)} that such a file may have")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path, most: int = TEXT_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises as `open_regular`."""
    with open_regular(path, most) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew since it was looked at
        raise UnreadableError(f"has more than the {_size(most)} that such a file may have")
    return content


def read_text(path: str | Path, most: int = TEXT_BYTES) -> str:
    """As `read_bytes`, in UTF-8 with or without a byte order mark."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UnreadableError(f"is not UTF-8 (byte {problem.start})") from problem


def read_json(path: str | Path, most: int = TEXT_BYTES) -> Any:
    """The value in a JSON file. Raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path, most))


def parse_json(text: str) -> Any:
    """A JSON value at most DEPTH deep, every number finite and of a length that Python reads. Raises UnreadableError."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as problem:
        raise UnreadableError(f"is nested more than {DEPTH} deep") from problem
    except UnreadableError:
        raise
    except ValueError as problem:
        raise UnreadableError(f"is not JSON ({problem})") from problem
    return _shallow(value)


def read_toml(path: str | Path, most: int = TEXT_BYTES) -> dict[str, Any]:
    """The table in a TOML file. Raises as `read_text` and `parse_toml`."""
    return parse_toml(read_text(path, most))


def parse_toml(text: str) -> dict[str, Any]:
    """A TOML table at most DEPTH deep; `nan` and `inf` are for whoever reads the value to refuse. Raises UnreadableError."""
    try:
        table = tomllib.loads(text)
    except RecursionError as problem:
        raise UnreadableError(f"is nested more than {DEPTH} deep") from problem
    except ValueError as problem:
        raise UnreadableError(f"is not TOML: {problem}") from problem
    _shallow(table)
    return table


def read_tensors(
    path: str | Path, most: int = TENSOR_BYTES, *, numbers: bool = True
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file. Raises as `open_regular`.

    numbers: raise UnreadableError unless all are floating-point numbers and finite. Names and shapes are the caller's to check.
    """
    from safetensors import SafetensorError, safe_open

    open_regular(path, most).close()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, ValueError, RuntimeError, OverflowError, TypeError, AttributeError) as problem:
        raise UnreadableError(f"is damaged or not safetensors ({problem})") from problem
    if numbers:
        check_numbers(tensors)
    return metadata, tensors


def check_numbers(tensors: Mapping[str, Tensor]) -> None:
    """Raises UnreadableError unless every tensor holds floating-point numbers, all of them finite."""
    import torch

    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise UnreadableError(f"holds {name} as {str(tensor.dtype).removeprefix('torch.')}, not as floating-point numbers")
        # The sum of finite numbers can overflow, so it only says where to look closely; it is many times faster than looking.
        if not torch.isfinite(tensor.sum(dtype=torch.float32)) and not torch.isfinite(tensor).all():
            raise UnreadableError(f"holds {name} with a number that is not finite (NaN or infinity)")


def file_digest(path: str | Path) -> str:
    """sha256 of a file's content, hexadecimal. Raises as `open_regular`."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _shallow(value: Any) -> Any:
    level, inner = 0, [value]
    while inner := [each for outer in inner for each in _inside(outer)]:
        level += 1
        if level > DEPTH:
            raise UnreadableError(f"is nested more than {DEPTH} deep")
    return value


def _inside(value: Any) -> list[Any]:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [each for each in within if isinstance(each, dict | list)]


def _no_constant(text: str) -> NoReturn:
    raise UnreadableError(f"holds {text}, which is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise UnreadableError(f"holds {text[:20]}, which is too large a number")
    return number


def _size(count: int) -> str:
    for unit, each in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= each:
            return f"{count / each:.4g} {unit}"
    return f"{count} bytes"
