"""Arrays on disk by what they were computed from, so that a frozen encoder runs once per photo.

A space names everything that shaped the value except the content: encoder, its weights' hash, the crop. A key is the
content's sha256. Files are `.npy` without pickles, which hold shape and type, and a sha256 behind that; written whole or not at
all, so several processes may fill one store. An entry that is not what was written is computed again, and a store that cannot
be written is done without.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.file_reading import UnreadableError, read_bytes
from tenth.core.file_writing import private_folder, write_bytes

Array = npt.NDArray[Any]

ENTRY_BYTES = 1 << 30  # most that an entry may have; the largest that are kept have some megabytes
MARK = b"tenth-sha256"  # between an entry's array and its sha256
DIGEST_BYTES = 32

_refused: set[Path] = set()  # stores that could not be written: said once, and not tried again


def cache_folder() -> Path:
    """The user's cache directory; one for temporary files where a user has no home."""
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return Path(tempfile.gettempdir())


def default_store() -> Path:
    """`$TENTH_STORE`, else `tenth` under the user's cache directory."""
    given = os.environ.get("TENTH_STORE")
    return Path(given) if given else cache_folder() / "tenth"


class Store:
    """A folder of arrays: `directory/space/ab/abcdef....npy`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, space: str, key: str) -> Path:
        """Where an entry lies: below the directory, whatever the names are."""
        space, key = (re.sub(r"[^\w.@+=-]", "-", name).lstrip(".") for name in (space, key))
        return self.directory / space / key[:2] / f"{key}.npy"

    def read(self, space: str, key: str) -> Array | None:
        """The array, or None where there is none or its file is not what was written (it is then computed again)."""
        try:
            content = read_bytes(self.path(space, key), ENTRY_BYTES)
            end = len(content) - len(MARK) - DIGEST_BYTES
            if end < 0 or content[end:] != MARK + _digest(space, key, content[:end]):
                return None
            array: Array = np.load(BytesIO(content[:end]), allow_pickle=False)
        except (OSError, UnreadableError, ValueError, EOFError):
            return None
        return array

    def write(self, space: str, key: str, array: Array) -> None:
        """Keep an array. Where that is not possible a line on stderr says so once, and nothing is kept."""
        if self.directory in _refused:
            return
        buffer = BytesIO()
        np.save(buffer, array, allow_pickle=False)
        try:
            if not self.directory.exists():
                private_folder(self.directory)  # a face's numbers are in it
            write_bytes(self.path(space, key), buffer.getvalue() + MARK + _digest(space, key, buffer.getvalue()))
        except (DataError, OSError) as problem:
            _refused.add(self.directory)
            found = problem.found if isinstance(problem, DataError) else f"{self.directory} ({problem.strerror})"
            print(f"{found}: the cache is done without, and what was computed is computed again", file=sys.stderr)

    def remember(self, space: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]]) -> Iterator[Array]:
        """The arrays of `keys`, in order. compute(missing positions) yields the missing ones, in order, and is asked once."""
        found = [self.read(space, key) for key in keys]
        missing = [position for position, array in enumerate(found) if array is None]
        if missing:
            for position, array in zip(missing, compute(missing), strict=True):
                self.write(space, keys[position], array)
                found[position] = array
        yield from (array for array in found if array is not None)

    def remember_all(self, space: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]]) -> Array:
        """As `remember`, stacked: (N, ...). Entries that are not of one shape and type are all computed again."""
        arrays = list(self.remember(space, keys, compute))
        if len({(array.shape, array.dtype) for array in arrays}) > 1:
            arrays = list(compute(list(range(len(keys)))))
            for key, array in zip(keys, arrays, strict=True):
                self.write(space, key, array)
        return np.stack(arrays)


def picture_key(picture: Array) -> str:
    """sha256 of a picture's shape and bytes, hexadecimal."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()


def _digest(space: str, key: str, content: bytes) -> bytes:
    """Of an entry and of its place: moved to another one it is not that one's."""
    return hashlib.sha256(f"{space}\0{key}\0".encode(errors="surrogateescape") + content).digest()
