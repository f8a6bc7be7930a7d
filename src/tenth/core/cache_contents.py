"""What lies in the cache: how much of what, what of some photos, and what goes when it is too large.

An entry is a file `namespace/ab/abcdef....npy`, or a folder `namespace/abcdef...` of one of FOLDER_NAMESPACES. Whoever uses an
entry sets its time. All of it can be computed again, so an entry may go at any moment, also while other processes run.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.claims import exclusive_folder, is_real_folder, list_entries, remove_folder, remove_temporary
from tenth.core.files.writing import write_bytes

DREAMBOOTH, OPENVINO = "dreambooth", "openvino"  # runs of fine-tuning, and converted networks
FOLDER_NAMESPACES = (DREAMBOOTH, OPENVINO)
ENTRY_SUFFIX = ".npy"
PHOTOS_FILE = "photos.json"  # in a run of fine-tuning: the sha256 of each of its photos
DEFAULT_LIMIT = 20_000_000_000  # bytes: the latents and crops of LFW's 13,000 photos have under 5 GB
TRIMMED_SHARE = 0.9  # of the limit stays when it is exceeded, so that not each entry is followed by a search
CHECK_SHARE, CHECK_SECONDS = 0.05, 86_400.0  # a process measures after writing this share of the limit; one of them each day
CHECKED_FILE = ".checked"  # its time: when the cache was last measured
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)

_unmeasured: dict[Path, int] = {}  # bytes that this process has written into a cache since it was last measured


@dataclass(frozen=True)
class CacheEntry:
    """path: of a file or folder. used: when it was last read or written, in seconds since 1970."""

    namespace: str
    path: Path
    bytes: int
    used: float


@dataclass(frozen=True)
class NamespaceSize:
    """A row of `tenth cache`."""

    name: str
    entries: int
    bytes: int


def parse_size(text: str, name: str = "the size") -> int:
    """'500 MB', '2G' or '1000000' -> bytes. name: what it is, for the error. Raises DataError for any other text."""
    match = SIZE.fullmatch(text.strip())
    if match is None:
        raise DataError(f"{name} {text!r:.100}", "a number of bytes is needed, such as 500MB or 20GB", "Correct it")
    return int(float(match[1]) * UNITS[match[2].lower()])


def cache_limit() -> int:
    """Bytes that the cache may have: `$TENTH_CACHE_LIMIT`, else DEFAULT_LIMIT. Raises DataError for a text that is no size."""
    text = os.environ.get("TENTH_CACHE_LIMIT")
    return parse_size(text, "$TENTH_CACHE_LIMIT") if text else DEFAULT_LIMIT


def cache_entries(directory: Path) -> Iterator[CacheEntry]:
    """Every entry. What else lies there, such as downloaded models, is none."""
    for folder in _folders(directory):
        for part in _folders(folder):
            if folder.name in FOLDER_NAMESPACES:
                yield from _entry(folder.name, part)
                continue
            for name in sorted(list_entries(part)) if len(part.name) <= 2 else ():
                if name.endswith(ENTRY_SUFFIX) and name.removesuffix(ENTRY_SUFFIX)[:2] == part.name:
                    yield from _entry(folder.name, part / name)


def cache_sizes(directory: Path) -> list[NamespaceSize]:
    """Each namespace that has entries, in the order of the names."""
    entries: defaultdict[str, list[int]] = defaultdict(list)
    for entry in cache_entries(directory):
        entries[entry.namespace].append(entry.bytes)
    return [NamespaceSize(name, len(sizes), sum(sizes)) for name, sizes in sorted(entries.items())]


def clear_cache(directory: Path) -> tuple[int, int]:
    """Remove every entry but those that a running process has locked. (how many, bytes)."""
    return _remove(list(cache_entries(directory)))


def trim_cache(directory: Path, limit: int) -> tuple[int, int]:
    """If it has more than `limit` bytes, remove the entries that were not used for longest. (how many, bytes).

    One process does so at a time; another one that wants to goes on without.
    """
    try:
        with exclusive_folder(directory):
            entries = sorted(cache_entries(directory), key=lambda entry: entry.used)
            total = sum(entry.bytes for entry in entries)
            unused, surplus = [], total - TRIMMED_SHARE * limit if total > limit else 0
            for entry in entries:
                if surplus <= 0:
                    break
                unused.append(entry)
                surplus -= entry.bytes
            return _remove(unused)
    except CheckpointError:
        return 0, 0


def note_written(directory: Path, count: int) -> None:
    """Keep the cache within its limit, of which this process has just written `count` bytes. Raises OSError, DataError."""
    limit = cache_limit()
    first, written = directory not in _unmeasured, _unmeasured.get(directory, 0) + count
    due = first and not _measured_lately(directory / CHECKED_FILE)
    if due or written > CHECK_SHARE * limit:
        trim_cache(directory, limit)
        write_bytes(directory / CHECKED_FILE, b"")
        written = 0
    _unmeasured[directory] = written


def mark_used(path: Path) -> None:
    """Set the time at which an entry was last used."""
    with suppress(OSError):  # gone, or a cache that is only read
        os.utime(path)


def remove_photo_entries(directory: Path, digests: Collection[str], also: Collection[str] = ()) -> int:
    """Remove the entries whose keys begin with one of the files' sha256; how many those were.

    also: other beginnings of keys, such as hashes of pixels. What a killed process was writing of them goes too.
    """
    removed, begins = 0, tuple({*digests, *also})
    for namespace in _folders(directory):
        if namespace.name in FOLDER_NAMESPACES:
            continue
        for part in (namespace / begin for begin in {text[:2] for text in begins}):
            remove_temporary(part, recursive=False)
            for name in list_entries(part):
                if name.startswith(begins) and name.endswith(ENTRY_SUFFIX):
                    (part / name).unlink(missing_ok=True)
                    removed += 1
    return removed


def _remove(entries: list[CacheEntry]) -> tuple[int, int]:
    count = size = 0
    for entry in entries:
        if entry.namespace in FOLDER_NAMESPACES:
            try:
                remove_folder(entry.path)
            except CheckpointError:  # a run that goes on
                continue
        else:
            entry.path.unlink(missing_ok=True)
        count, size = count + 1, size + entry.bytes
    return count, size


def _entry(namespace: str, path: Path) -> Iterator[CacheEntry]:
    """The entry, unless another process has just removed it."""
    with suppress(OSError):
        files = [path, *path.rglob("*")] if namespace in FOLDER_NAMESPACES else [path]
        states = [file.lstat() for file in files]
        yield CacheEntry(namespace, path, sum(each.st_size for each in states), max(each.st_mtime for each in states))


def _folders(folder: Path) -> list[Path]:
    return [folder / name for name in sorted(list_entries(folder)) if is_real_folder(folder / name)]


def _measured_lately(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < CHECK_SECONDS
    except OSError:
        return False
