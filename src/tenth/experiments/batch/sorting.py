"""Lines of any number, sorted in memory of a few: sorted parts on the disk, merged."""

from __future__ import annotations

import heapq
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import gettempdir

from tenth.core.files.reading import open_regular
from tenth.core.files.writing import TEMPORARY_SUFFIX, atomic_file, explain_os_errors

CHUNK_LINES = 5_000  # in memory at once: some 5 MB of a plan's
MAX_PARTS = 256  # files that are open at once


def sorted_lines(lines: Iterable[bytes], scratch: Path | None = None, chunk_lines: int = CHUNK_LINES) -> Iterator[bytes]:
    """The lines, each with its line end, in the order of their bytes. scratch: a folder for parts; None: the system's.

    Raises DataError if the disk is full.
    """
    rest = iter(lines)
    chunk = sorted(islice(rest, chunk_lines))
    if len(chunk) < chunk_lines:
        yield from chunk
        return
    with _scratch_folder(scratch or Path(gettempdir())) as folder:
        parts: list[Path] = []
        while chunk:
            parts.append(_write_part(folder / f"{len(parts):06d}", chunk))
            chunk.clear()  # one part is in memory, not two
            chunk = sorted(islice(rest, chunk_lines))

        # No more files than a process may open: some are merged first.
        count = len(parts)
        while len(parts) > MAX_PARTS:
            merged = _write_part(folder / f"{count:06d}", _merge(parts[:MAX_PARTS]))
            for part in parts[:MAX_PARTS]:
                part.unlink()
            parts, count = [*parts[MAX_PARTS:], merged], count + 1
        yield from _merge(parts)


@contextmanager
def _scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder that goes with the block; where the process was killed, with the next one's `remove_temporary`."""
    folder = parent / f".sorting.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
    try:
        with explain_os_errors(folder):
            folder.mkdir(parents=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write_part(path: Path, lines: Iterable[bytes]) -> Path:
    with atomic_file(path) as file:
        file.writelines(lines)
    return path


def _merge(parts: list[Path]) -> Iterator[bytes]:
    files = [open_regular(part) for part in parts]
    try:
        yield from heapq.merge(*files)
    finally:
        for file in files:
            file.close()
