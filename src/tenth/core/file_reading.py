"""Files read with suspicion: only a regular file (never a device, a pipe or a folder), up to a stated size.

JSON and TOML are read up to a depth, and numbers are numbers. What fails raises UnreadableError, whose text says what was
found; the caller, who knows what the file is for, turns it into an error that says what is needed and what to do:

    except (OSError, UnreadableError) as problem:
        raise DataError(f"{path} {reason(problem)}", "what is needed", "What to do") from problem
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from tenth.core.errors import ModelError

TEXT_BYTES = 32 << 20  # most that is read of a JSON, TOML or text file
LINE_BYTES = 1 << 20  # most that is read of one line of a file that has a value a line
TENSOR_BYTES = 64 << 30  # most that a file of weights may hold; the largest published ones have about 20 GB
DEPTH = 64  # lists and tables inside one another
LARGEST = 2**63 - 1  # of whole numbers, as everything that takes them on takes
CHUNK = 1 << 20


class UnreadableError(ValueError):
    """A file is not what can be read safely. Its text says what was found, without the path."""


def reason(problem: OSError | UnreadableError) -> str:
    """What was found, to stand after the path in a message."""
    if isinstance(problem, UnreadableError):
        return str(problem)
    return "does not exist" if isinstance(problem, FileNotFoundError) else f"cannot be read ({problem.strerror or problem})"


def name_of(path: str | Path) -> str:
    """The last part of a path as text that any file and terminal can hold: what is not UTF-8 in it is replaced."""
    return os.fsencode(Path(path).name).decode("utf-8", "replace")


def open_regular(path: str | Path, most: int = TENSOR_BYTES) -> BufferedReader:
    """A regular file of at most `most` bytes, open for reading. Raises UnreadableError, FileNotFoundError or another OSError.

    A pipe or a device is refused without waiting for it: opened without blocking, looked at, closed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise UnreadableError("is a link that leads back to itself") from problem
        if problem.errno in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
            raise UnreadableError("is a pipe or a device, not a file") from problem
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
        content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)  # room is made for as much as is asked for
    if len(content) > most:  # it grew since it was looked at
        raise UnreadableError(f"has more than the {_size(most)} that such a file may have")
    return content


def read_text(path: str | Path, most: int = TEXT_BYTES) -> str:
    """As `read_bytes`, in UTF-8 with or without a byte order mark."""
    try:
        return read_bytes(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UnreadableError(f"is not UTF-8 (byte {problem.start})") from problem


def read_lines(path: str | Path, most: int = TENSOR_BYTES) -> Iterator[str]:
    """The lines of a UTF-8 file of any length, each at most LINE_BYTES long, without what ends them. Raises as `read_text`."""
    with open_regular(path, most) as file:
        number = 0
        while line := file.readline(LINE_BYTES + 1):
            number += 1
            if len(line) > LINE_BYTES:
                raise UnreadableError(f"has more than {_size(LINE_BYTES)} in line {number}")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as problem:
                raise UnreadableError(f"is not UTF-8 (line {number})") from problem


def read_json(path: str | Path, most: int = TEXT_BYTES) -> Any:
    """The value in a JSON file. Raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path, most))


def parse_json(text: str, *, names: bool = False) -> Any:
    """A JSON value at most DEPTH deep, numbers finite and of 64 bits, texts such as UTF-8 has. Raises UnreadableError.

    names: texts may also be names of files that are not UTF-8, as Python has them.
    """
    try:
        return _plain(
            json.loads(text, parse_constant=_no_constant, parse_float=_finite), "surrogateescape" if names else "strict"
        )
    except RecursionError as problem:
        raise UnreadableError(f"is nested more than {DEPTH} deep") from problem
    except UnreadableError:
        raise
    except ValueError as problem:
        raise UnreadableError(f"is not JSON ({problem})") from problem


def read_toml(path: str | Path, most: int = TEXT_BYTES) -> dict[str, Any]:
    """The table in a TOML file. Raises as `read_text` and `parse_toml`."""
    return parse_toml(read_text(path, most))


def parse_toml(text: str) -> dict[str, Any]:
    """As `parse_json`; `nan` and `inf` are for whoever reads the value to refuse. Raises UnreadableError."""
    try:
        return dict(_plain(tomllib.loads(text)))
    except RecursionError as problem:
        raise UnreadableError(f"is nested more than {DEPTH} deep") from problem
    except UnreadableError:
        raise
    except ValueError as problem:
        raise UnreadableError(f"is not TOML: {problem}") from problem


def file_digest(path: str | Path) -> str:
    """sha256 of a file's content, hexadecimal. Raises as `open_regular`."""
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def blob_digest(path: str | Path) -> str:
    """The id that git gives a file: the sha1 of a header and its content, hexadecimal. Raises as `open_regular`."""
    with open_regular(path) as file:
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _plain(value: Any, odd: str = "strict") -> Any:
    """The value, if it is shallow enough and its whole numbers and texts are such as a program can take on."""
    level, inner = 0, [value]
    while inner:
        if level > DEPTH and any(isinstance(each, dict | list) for each in inner):
            raise UnreadableError(f"is nested more than {DEPTH} deep")
        for each in inner:
            _check_plain(each, odd)
        level, inner = level + 1, [each for outer in inner for each in _inside(outer)]
    return value


def _check_plain(value: Any, odd: str) -> None:
    if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise UnreadableError("holds a whole number of more than 64 bits")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode(errors=odd)
        except UnicodeEncodeError:
            raise UnreadableError("holds a text with half a character in it, which UTF-8 does not have") from None


def _inside(value: Any) -> Iterable[Any]:
    return (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()


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


LITTER = {"__pycache__", ".ipynb_checkpoints", "__MACOSX", ".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"}
APPLE = "._"  # how the name of a second file begins that macOS writes beside each on foreign disks


def is_litter(path: str | Path) -> bool:
    """Whether a file or folder is litter, by its name alone, or lies in a folder that is."""
    return any(part in LITTER or part.startswith(APPLE) for part in Path(path).parts)


def without_litter(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Those of a folder's files and folders that somebody put there, in order."""
    return sorted(path for path in paths if not is_litter(path.relative_to(folder)))


def digest_of(files: Sequence[Path]) -> str:
    """First 16 hexadecimal digits of the sha256 over the files' contents, in the given order. Raises ModelError."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with open_regular(path) as file:
                while part := file.read(CHUNK):
                    digest.update(part)
        except (OSError, UnreadableError) as problem:
            raise ModelError(f"{path} {reason(problem)}", "a file of weights is needed", "Get it again") from problem
    return digest.hexdigest()[:16]
