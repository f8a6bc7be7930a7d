"""A cache of arrays on disk, so that a frozen encoder runs once per photo.

A namespace names everything that the value depends on except the content: encoder, hash of its weights, crop. A key is the
sha256 of the content; of what is computed from a file it begins with the file's sha256, so that all of a photo can be found.
An entry is a `.npy` file without pickles and a sha256 after it, written atomically, so that several
processes may share a cache. A damaged entry is computed again; if the cache cannot be written, values are not kept.
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

from tenth.core.cache_contents import ENTRY_SUFFIX, mark_used, note_written
from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, read_bytes
from tenth.core.files.writing import make_private_folder, write_bytes

Array = npt.NDArray[Any]

MAX_ENTRY_BYTES = 1 << 30  # the largest entries have some megabytes
DIGEST_MARKER = b"tenth-sha256"  # between an entry's array and its sha256
DIGEST_BYTES = 32

_unwritable: set[Path] = set()  # caches that could not be written: reported once, and not tried again


def user_cache_dir() -> Path:
    """The user's cache directory; that for temporary files if the user has no home."""
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
    """A folder of arrays: `directory/namespace/ab/abcdef....npy`. keep: False, nothing is read or written."""

    def __init__(self, directory: Path, *, keep: bool = True) -> None:
        self.directory, self.keep = directory, keep

    def path(self, namespace: str, key: str) -> Path:
        """The path of an entry, which is below the directory for any names."""
        namespace, key = (re.sub(r"[^\w.@+=-]", "-", name).lstrip(".") for name in (namespace, key))
        return self.directory / namespace / key[:2] / f"{key}{ENTRY_SUFFIX}"

    def read(self, namespace: str, key: str) -> Array | None:
        """The array, or None if there is none or its file is damaged."""
        path = self.path(namespace, key)
        if not self.keep:
            return None
        try:
            content = read_bytes(path, MAX_ENTRY_BYTES)
            end = len(content) - len(DIGEST_MARKER) - DIGEST_BYTES
            if end < 0 or content[end:] != DIGEST_MARKER + _digest(namespace, key, content[:end]):
                return None
            array: Array = np.load(BytesIO(content[:end]), allow_pickle=False)
        except (OSError, UnreadableError, ValueError, EOFError):
            return None
        mark_used(path)
        return array

    def write(self, namespace: str, key: str, array: Array) -> None:
        """Keep an array. If that fails, a line on stderr says so once, and nothing is kept from then on."""
        if not self.keep or self.directory in _unwritable:
            return
        buffer = BytesIO()
        np.save(buffer, array, allow_pickle=False)
        content = buffer.getvalue()
        try:
            if not self.directory.exists():
                make_private_folder(self.directory)  # it holds face descriptors
            write_bytes(self.path(namespace, key), content + DIGEST_MARKER + _digest(namespace, key, content))
            note_written(self.directory, len(content))
        except (DataError, OSError) as problem:
            _unwritable.add(self.directory)
            reason = problem.found if isinstance(problem, DataError) else f"{self.directory} ({problem.strerror})"
            print(f"{reason}: the cache is done without, and what was computed is computed again", file=sys.stderr)

    def get_or_compute(
        self, namespace: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]]
    ) -> Iterator[Array]:
        """The arrays of `keys`, in order. compute(positions of missing keys) yields theirs, in order, and is called once."""
        arrays = [self.read(namespace, key) for key in keys]
        missing = [position for position, array in enumerate(arrays) if array is None]
        for position, array in zip(missing, compute(missing), strict=True) if missing else ():
            self.write(namespace, keys[position], array)
            arrays[position] = array
        yield from (array for array in arrays if array is not None)

    def get_or_compute_stacked(
        self, namespace: str, keys: Sequence[str], compute: Callable[[list[int]], Iterable[Array]]
    ) -> Array:
        """As `get_or_compute`, stacked: (N, ...). If shapes or dtypes differ, all entries are computed again."""
        arrays = list(self.get_or_compute(namespace, keys, compute))
        if len({(array.shape, array.dtype) for array in arrays}) > 1:
            arrays = list(compute(list(range(len(keys)))))
            for key, array in zip(keys, arrays, strict=True):
                self.write(namespace, key, array)
        return np.stack(arrays)


def photo_key(digest: str, content_hash: str) -> str:
    """The key of what is computed from a photo's content. digest: sha256 of its file, "" of an image that has none."""
    return f"{digest}-{content_hash}" if digest else content_hash


def image_hash(image: Array) -> str:
    """sha256 of an image's shape and bytes, hexadecimal."""
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def _digest(namespace: str, key: str, content: bytes) -> bytes:
    """Of an entry and its place: an entry that was moved does not match."""
    return hashlib.sha256(f"{namespace}\0{key}\0".encode(errors="surrogateescape") + content).digest()
