"""people.jsonl, the input of training and experiments: one photo per line, with its person, split and captions. Its report."""

from __future__ import annotations

import hashlib
import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np

from tenth.core.errors import DataError
from tenth.core.files.claims import remove_temporary_of
from tenth.core.files.reading import UnreadableError, parse_json, read_json, read_lines, reason
from tenth.core.files.writing import atomic_file
from tenth.data.splits import FOLDS, SPLITS, Split

MANIFEST_FILE, REPORT_FILE = "people.jsonl", "report.json"
SHOWN = 100  # dropped files that are printed; the report has all


@dataclass(frozen=True)
class ManifestEntry:
    """One photo. file: NAME/PHOTO, relative to the folder of photos. digest: its sha256. caption: the first of captions."""

    file: str
    person: str
    split: Split
    fold: int
    caption: str
    captions: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class DroppedPhoto:
    """A file that got no row. code: a short word. other: the file that it is a copy of, or that somebody else has, else ''."""

    file: str
    person: str
    code: str
    reason: str
    other: str = ""


@dataclass(frozen=True)
class ManifestSummary:
    """What was written. people, photos: counts by split. dropped: the first SHOWN of num_dropped. notes: for the user."""

    people: Mapping[str, int]
    photos: Mapping[str, int]
    dropped: tuple[DroppedPhoto, ...] = ()
    num_dropped: int = 0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{split:<10} {self.people[split]:>6,} people {self.photos[split]:>7,} photos" for split in SPLITS]
        lines += [f"dropped {photo.file}: {photo.reason}" for photo in self.dropped]
        if more := self.num_dropped - len(self.dropped):
            lines.append(f"and {more:,} more: {REPORT_FILE} names all")
        return "\n".join(lines)


class ManifestWriter:
    """Rows and dropped files, in order: a person's rows are neighbours. They are written as they come, and counted."""

    def __init__(self, rows: IO[bytes], report: IO[bytes]) -> None:
        self._rows, self._report = rows, report
        self._people, self._photos = (dict.fromkeys(map(str, SPLITS), 0) for _ in range(2))
        self._codes = Counter[str]()
        self._person, self._shown = "", list[DroppedPhoto]()
        report.write(b'{\n "dropped": [')

    @property
    def num_photos(self) -> int:
        return sum(self._photos.values())

    def add(self, row: ManifestEntry) -> None:
        self._rows.write(_to_line(row))
        self._photos[row.split] += 1
        self._people[row.split] += row.person != self._person
        self._person = row.person

    def drop(self, photo: DroppedPhoto) -> None:
        self._report.write(b",\n  " if self._codes else b"\n  ")
        self._report.write(json.dumps(asdict(photo), sort_keys=True).encode())
        self._codes[photo.code] += 1
        if len(self._shown) < SHOWN:
            self._shown.append(photo)

    @property
    def num_dropped(self) -> int:
        return self._codes.total()

    @property
    def dropped(self) -> Sequence[DroppedPhoto]:
        """The first SHOWN."""
        return self._shown

    def finish(self, notes: Iterable[str], sources: Mapping[str, str] | None = None) -> ManifestSummary:
        """End the report. sources: the sha256 of files that rows were made of, by what they are."""
        summary = ManifestSummary(self._people, self._photos, tuple(self._shown), self._codes.total(), tuple(notes))
        rest = {"num_dropped": self._codes, "notes": summary.notes, "people": self._people, "photos": self._photos}
        rest |= {"sources": sources} if sources else {}
        self._report.write(b"\n ],\n" if self._codes else b"],\n")
        lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(rest[key], sort_keys=True)}" for key in sorted(rest))
        self._report.write(f"{lines}\n}}\n".encode())
        return summary


def read_sources(folder: Path) -> dict[str, str]:
    """The `sources` in a folder's report.json; {} if there is none."""
    try:
        report = read_json(folder / REPORT_FILE)
    except (OSError, UnreadableError):
        return {}
    sources = report.get("sources") if isinstance(report, dict) else None
    return dict(sources) if isinstance(sources, dict) else {}


def remove_temporary_manifest(folder: Path) -> None:
    """Remove what a killed writer left of both files."""
    for name in (MANIFEST_FILE, REPORT_FILE):
        remove_temporary_of(folder / name)


@contextmanager
def writing_manifest(folder: Path) -> Iterator[ManifestWriter]:
    """Write people.jsonl and report.json, which says what was dropped and why; each is the old file or the new one.

    Nothing is replaced unless the block ends without an exception. Raises DataError if they cannot be written.
    """
    with atomic_file(folder / MANIFEST_FILE) as rows, atomic_file(folder / REPORT_FILE) as report:
        yield ManifestWriter(rows, report)


def write_manifest(path: Path, entries: Iterable[ManifestEntry]) -> None:
    """Write all rows atomically: a reader sees the old file or the new one."""
    with atomic_file(path) as file:
        file.writelines(map(_to_line, entries))


def _to_line(row: ManifestEntry) -> bytes:
    return f"{json.dumps(asdict(row))}\n".encode()


def read_manifest(path: str | Path) -> list[ManifestEntry]:
    """The rows of a people.jsonl, in its order.

    Raises DataError if the file is unreadable or empty, a line is damaged, a photo is listed twice, or a person has two splits.
    """
    path = Path(path)
    entries = list(iterate_manifest(path))
    splits: dict[str, str] = {}
    files: set[str] = set()
    for number, entry in enumerate(entries, 1):
        if entry.file in files:
            raise _damaged(path, number, f"{entry.file} stands a second time")
        if splits.setdefault(entry.person, entry.split) != entry.split:
            raise _damaged(path, number, f"{entry.person} is in {splits[entry.person]} and in {entry.split}")
        files.add(entry.file)
    return entries


def iterate_manifest(path: Path) -> Iterator[ManifestEntry]:
    """As `read_manifest`, one row at a time, each checked by itself."""
    number = 0
    try:
        for number, line in enumerate(read_lines(path), 1):
            yield _parse_entry(path, number, line)
    except (OSError, UnreadableError) as problem:
        action = "Write them with `tenth data lfw` or `tenth data image-folder`; docs/data.md has both"
        raise DataError(f"{path} {reason(problem)}", "the rows of a data set are needed", action) from problem
    if not number:
        raise _damaged(path, 1, "the file is empty")


def iterate_people(path: Path, split: str) -> Iterator[list[ManifestEntry]]:
    """The rows of one person of a split after another, for files of any length: 8 bytes a person are kept.

    Raises DataError as `iterate_manifest`, at the end if the rows of a person are not together.
    """
    names = array("Q")
    for person, rows in groupby(iterate_manifest(path), lambda row: row.person):
        entries = list(rows)
        names.append(_short_hash(person))
        if len({row.split for row in entries}) > 1 or len({row.file for row in entries}) < len(entries):
            raise DataError(f"{path}: {person} has two splits, or a photo twice", NEEDED_ROWS, WRITE_AGAIN)
        if entries[0].split == split:
            yield entries

    # Two names of one hash among a million people: once in some ten million files.
    hashes, counts = np.unique(np.frombuffer(names, np.uint64), return_counts=True)
    if repeated := set(hashes[counts > 1].tolist()):
        person = next(row.person for row in iterate_manifest(path) if _short_hash(row.person) in repeated)
        raise DataError(f"{path}: the rows of {person} are not together", NEEDED_ROWS, WRITE_AGAIN)


def _short_hash(person: str) -> int:
    return int.from_bytes(hashlib.sha256(person.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def _parse_entry(path: Path, number: int, line: str) -> ManifestEntry:
    try:
        entry = parse_json(line, allow_surrogates=True)
    except UnreadableError as problem:
        raise _damaged(path, number, f"not a JSON object: it {problem}") from problem
    if not isinstance(entry, dict):
        raise _damaged(path, number, "not a JSON object")
    for key, fits in CHECKS.items():
        if key not in entry or not fits(entry[key]):
            raise _damaged(path, number, f"{key} is {json.dumps(entry.get(key)):.200}")
    return ManifestEntry(**{key: entry[key] for key in CHECKS if key != "captions"}, captions=tuple(entry["captions"]))


def _name(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _text(value: Any) -> bool:
    return _name(value) and all(not "\ud800" <= character <= "\udfff" for character in value)  # no unpaired surrogates


def _file(value: Any) -> bool:
    return _name(value) and not PurePosixPath(value).is_absolute() and ".." not in PurePosixPath(value).parts


NEEDED_ROWS = "a person's photos stand one after the other, each once, in one split"
WRITE_AGAIN = "Write it again with `tenth data lfw` or `tenth data image-folder`"
SHA256_PATTERN = re.compile("[0-9a-f]{64}")  # part of the names of cache entries of a photo
CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "file": _file,
    "person": _name,
    "split": lambda value: value in SPLITS,
    "fold": lambda value: type(value) is int and 0 <= value < FOLDS,
    "caption": _text,
    "captions": lambda value: isinstance(value, list) and len(value) > 0 and all(map(_text, value)),
    "digest": lambda value: isinstance(value, str) and SHA256_PATTERN.fullmatch(value) is not None,
}


def _damaged(path: Path, number: int, found: str) -> DataError:
    needed = "each line is one photo with file, person, split, fold, caption, captions and digest"
    return DataError(f"{path}, line {number}: {found}", needed, WRITE_AGAIN)
