"""Read untrusted files: only regular files (no device, pipe or folder), up to a given size.

JSON and TOML are limited in depth, and numbers must be finite. A file that fails raises UnreadableError, whose text says what
was found; the caller adds what is needed and what to do:

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
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

from tenth.core.errors import ModelError
from tenth.core.wording import format_bytes, shorten

MAX_TEXT_BYTES = 32 << 20  # of a JSON, TOML or text file
MAX_LINE_BYTES = 1 << 20  # of one line of a file that has one value per line
MAX_TENSOR_FILE_BYTES = 64 << 30  # of a file of weights; the largest published ones have about 20 GB
MAX_DEPTH = 64  # of nested lists and tables
MAX_INTEGER = 2**63 - 1  # of whole numbers: 64 bits


class UnreadableError(ValueError):
    """A file cannot be read safely. The text says what was found, without the path."""


def reason(problem: OSError | UnreadableError) -> str:
    """What was found, for a message in which it follows the path."""
    if isinstance(problem, UnreadableError):
        return str(problem)
    return "does not exist" if isinstance(problem, FileNotFoundError) else f"cannot be read ({problem.strerror or problem})"


def printable_name(path: str | Path) -> str:
    """The last part of a path as valid Unicode: bytes that are not UTF-8 are replaced."""
    return os.fsencode(Path(path).name).decode("utf-8", "replace")


def open_regular(path: str | Path, max_bytes: int = MAX_TENSOR_FILE_BYTES) -> BufferedReader:
    """A regular file of at most `max_bytes` bytes, open for reading.

    A pipe or a device is refused without waiting for it. Raises UnreadableError, FileNotFoundError or another OSError.
    """
    # Without blocking: opening a pipe would wait for its other end.
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
    if state.st_size > max_bytes:
        os.close(descriptor)
        found, most = format_bytes(state.st_size), format_bytes(max_bytes)
        raise UnreadableError(f"has {found}, more than the {most} that such a file may have")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """The content of a regular file of at most `max_bytes` bytes. Raises as `open_regular`."""
    with open_regular(path, max_bytes) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, max_bytes) + 1)  # read() allocates as much as is requested
    if len(content) > max_bytes:  # it grew after fstat
        raise UnreadableError(f"has more than the {format_bytes(max_bytes)} that such a file may have")
    return content


def read_verified(path: str | Path, sha256: str, max_bytes: int) -> bytes:
    """As `read_bytes`; the very bytes that are returned have this sha256, else UnreadableError."""
    content = read_bytes(path, max_bytes)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UnreadableError(f"has {len(content):,} bytes and the sha256 {found}")
    return content


def read_text(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """As `read_bytes`, in UTF-8 with or without a byte order mark."""
    try:
        return read_bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise UnreadableError(f"is not UTF-8 (byte {problem.start})") from problem


def read_lines(path: str | Path) -> Iterator[str]:
    """The lines of a UTF-8 file of any length, each at most MAX_LINE_BYTES, without line ends. Raises as `read_text`."""
    with open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            if len(line) > MAX_LINE_BYTES:
                raise UnreadableError(f"has more than {format_bytes(MAX_LINE_BYTES)} in line {number}")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as problem:
                raise UnreadableError(f"is not UTF-8 (line {number})") from problem


def read_json(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> Any:
    """The value in a JSON file. Raises as `read_text` and `parse_json`."""
    return parse_json(read_text(path, max_bytes))


def parse_json(text: str, *, allow_surrogates: bool = False, unique_keys: bool = False) -> Any:
    """A JSON value at most MAX_DEPTH deep, numbers finite and of 64 bits, strings valid Unicode. Raises UnreadableError.

    allow_surrogates: strings may contain surrogate escapes, Python's form of file names that are not UTF-8. unique_keys: an
    object has each key once, as what a user writes; otherwise the last one counts.
    """
    loads = partial(json.loads, object_pairs_hook=_unique) if unique_keys else json.loads
    return _parse(loads, text, "JSON", "surrogateescape" if allow_surrogates else "strict")


def read_toml(path: str | Path, max_bytes: int = MAX_TEXT_BYTES) -> dict[str, Any]:
    """The table in a TOML file. Raises as `read_text` and `parse_toml`."""
    return parse_toml(read_text(path, max_bytes))


def parse_toml(text: str) -> dict[str, Any]:
    """As `parse_json`; but `nan` and `inf` are for the caller to refuse. Raises UnreadableError."""
    return dict(_parse(tomllib.loads, text, "TOML"))


def sha256_of(path: str | Path) -> str:
    """sha256 of a file's content, hexadecimal. Raises as `open_regular`."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_sha256_of(files: Sequence[Path]) -> str:
    """First 16 hexadecimal digits of the sha256 of the files' contents, in the given order. Raises ModelError."""
    digest = hashlib.sha256()
    for path in files:
        try:
            with open_regular(path) as file:
                hashlib.file_digest(file, lambda: digest)
        except (OSError, UnreadableError) as problem:
            raise ModelError(f"{path} {reason(problem)}", "a file of weights is needed", "Get it again") from problem
    return digest.hexdigest()[:16]


def git_blob_sha1(path: str | Path) -> str:
    """Git's blob id of a file, hexadecimal: the sha1 of a header and the content. Raises as `open_regular`."""
    with open_regular(path) as file:
        digest = hashlib.sha1(b"blob %d\0" % os.fstat(file.fileno()).st_size, usedforsecurity=False)
        return hashlib.file_digest(file, lambda: digest).hexdigest()


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in table if names.count(name) > 1)
        raise UnreadableError(f"has the key {shorten(repr(twice))} twice")
    return table


def _parse(parse: Callable[[str], Any], text: str, syntax: str, encoding_errors: str = "strict") -> Any:
    try:
        value = parse(text)
        _check_value(value, encoding_errors, finite=syntax == "JSON")
    except RecursionError as problem:
        raise UnreadableError(f"is nested more than {MAX_DEPTH} deep") from problem
    except UnreadableError:
        raise
    except ValueError as problem:
        raise UnreadableError(f"is not {syntax} ({problem})") from problem
    return value


def _check_value(value: Any, encoding_errors: str, depth: int = 0, *, finite: bool) -> None:
    """Raises UnreadableError unless numbers and strings are within the limits of `parse_json`, RecursionError for the depth."""
    if finite and isinstance(value, float) and not math.isfinite(value):
        raise UnreadableError(f"holds {json.dumps(value)}, which is no number")
    if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
        raise UnreadableError("holds a whole number of more than 64 bits")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode(errors=encoding_errors)
        except UnicodeEncodeError:
            raise UnreadableError("holds a text with half a character in it, which UTF-8 does not have") from None
    if isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise RecursionError
        for inner in (*value, *value.values()) if isinstance(value, dict) else value:
            _check_value(inner, encoding_errors, depth + 1, finite=finite)


SYSTEM_FILES = {
    "__pycache__", ".ipynb_checkpoints", "__MACOSX", ".DS_Store", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory",
}  # fmt: skip
APPLEDOUBLE_PREFIX = "._"  # of a second file that macOS writes beside each on foreign disks


def is_system_file(path: str | Path) -> bool:
    """Whether a file or folder, or one around it, has the name of a file that systems leave behind."""
    return any(part in SYSTEM_FILES or part.startswith(APPLEDOUBLE_PREFIX) for part in Path(path).parts)


def without_system_files(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """The paths without system files, sorted."""
    return sorted(path for path in paths if not is_system_file(path.relative_to(folder)))
