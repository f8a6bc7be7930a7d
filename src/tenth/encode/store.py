"""Arrays on disk by what they were computed from, so that a frozen encoder runs once per photo.

A space names everything that shaped the value except the content: encoder, its weights' hash, the crop. A key is the
content's sha256. Files are `.npy` without pickles, written whole or not at all, so several processes may fill one store.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenth.file_writing import private_folder, write_bytes

Array = npt.NDArray[Any]


def default_store() -> Path:
    """`$TENTH_STORE`, else `tenth` under the user's cache directory."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TENTH_STORE") or Path(cache) / "tenth")


class Store:
    """A folder of arrays: `directory/space/ab/abcdef....npy`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, space: str, key: str) -> Path:
        return self.directory / space / key[:2] / f"{key}.npy"

    def read(self, space: str, key: str) -> Array | None:
        """The array, or None where there is none or its file is damaged (it is then computed again)."""
        try:
            array: Array = np.load(self.path(space, key), allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError, OSError):
            return None
        return array

    def write(self, space: str, key: str, array: Array) -> None:
        if not self.directory.exists():
            private_folder(self.directory)  # a face's numbers are in it
        content = io.BytesIO()
        np.save(content, array, allow_pickle=False)
        write_bytes(self.path(space, key), content.getvalue())

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
        """As `remember`, stacked: (N, ...)."""
        return np.stack(list(self.remember(space, keys, compute)))


def picture_key(picture: Array) -> str:
    """sha256 of a picture's shape and bytes, hexadecimal."""
    return hashlib.sha256(repr(picture.shape).encode() + np.ascontiguousarray(picture).tobytes()).hexdigest()
