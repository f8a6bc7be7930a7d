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
from tenth.core.files.reading import UnreadableError, read_bytes
from tenth.core.files.writing import make_private_folder, write_bytes

Array = npt.NDArray[Any]

MAX_ENTRY_BYTES = 1 << 30  # most that an entry may have; the largest that are kept have some megabytes
DIGEST_MARKER = b"tenth-sha256"  # between an entry's array and its sha256
DIGEST_BYTES = 32

_unwritable: set[Path] = set()  # stores that could not be written: said once, and not tried again


def user_cache_dir() -> Path:
    """The user's cache directory; one for temporary files where a user has no home."""
    if value := os.environ.get("XDG_CACHE_HOME"):
        return Path(value)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return Path(tempfile.gettempdir())


def default_cache_dir() -> Path:
    """`$TENTH_CACHE_DIR`, else `tenth` under the user's cache directory."""
    value = os.environ.get("TENTH_CACHE_DIR")
    return Path(value) if value else user_cache_dir() / "tenth"


class ArrayCache:
    """A folder of arrays: `directory/space/ab/abcdef....npy`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, namespace: str, key: str) -> Path:
        """Where an entry lies: below the directory, whatever the names are."""
        namespace, key = (re.sub(r"[^\w.@+=-]", "-", name).lstrip(".") for name in (namespace, key))
        return self.directory / namespace / key[:2] / f"{key}.npy"

    def read(self, namespace: str, key: str) -> Array | None:
        """The array, or None where there is none or its file is not what was written (it is then computed again)."""
        try:
            content = read_bytes(self.path(namespace, key), MAX_ENTRY_BYTES)
            end = len(content) - len(DIGEST_MARKER) - DIGEST_BYTES
            if end < 0 or content[end:] != DIGEST_MARKER + _digest(namespace, key, content[:end]):
                return None
            array: Array = np.load(BytesIO(content[:end]), allow_pickle=False)
        except (OSError, UnreadableError, ValueError, EOFError):
            return None
        return array

    def write(self, namespace: str, key: str, array: Array) -> None:
        """Keep an array. Where that is not possible a line on stderr says so once, and nothing is kept."""
        if self.directory in _unwritable:
            return
        buffer = BytesIO()
        np.save(buffer, array, allow_pickle=False)
        try:
            if not self.directory.exists():
                make_private_folder(self.directory)  # a face's numbers are in it
            write_bytes(
                self.path(namespace, key), buffer.getvalue() + DIGEST_MARKER + _digest(namespace, key, buffer.getvalue())
            )
        except (DataError, OSError) as problem:
            _unwritable.add(self.directory)
            reason = problem.found if isinstance(problem, DataError) else f"{self.directory} ({problem.strerror})"
            print(f"{reason}: the cache is done without, and what was computed is computed again", file=sys.stderr)

    def get_or_compute(
        self, namespace: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]]
    ) -> Iterator[Array]:
        """The arrays of `keys`, in order. compute(missing positions) yields the missing ones, in order, and is asked once."""
        arrays = [self.read(namespace, key) for key in keys]
        missing = [position for position, array in enumerate(arrays) if array is None]
        if missing:
            for position, array in zip(missing, compute(missing), strict=True):
                self.write(namespace, keys[position], array)
                arrays[position] = array
        yield from (array for array in arrays if array is not None)

    def get_or_compute_stacked(
        self, namespace: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]]
    ) -> Array:
        """As `get_or_compute`, stacked: (N, ...). Entries that are not of one shape and type are all computed again."""
        arrays = list(self.get_or_compute(namespace, keys, compute))
        if len({(array.shape, array.dtype) for array in arrays}) > 1:
            arrays = list(compute(list(range(len(keys)))))
            for key, array in zip(keys, arrays, strict=True):
                self.write(namespace, key, array)
        return np.stack(arrays)


def image_hash(image: Array) -> str:
    """sha256 of a picture's shape and bytes, hexadecimal."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def _digest(namespace: str, key: str, content: bytes) -> bytes:
    """Of an entry and of its place: moved to another one it is not that one's."""
    return hashlib.sha256(f"{namespace}\0{key}\0".encode(errors="surrogateescape") + content).digest()
