"""What was found and opened of a million folders: an SQLite file, so that a stopped run goes on, and memory stays flat.

Each result is in it as soon as it is there. A photo that was opened is not opened again unless its file has changed; one that
was refused is tried again. Persons and files stand in it by their `natural_sort_key`, which the database sorts.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tenth.core.files.database_errors import explain_database_errors
from tenth.data.intake.person_folders import OpenedPhoto, PersonFolder, RefusedPhoto
from tenth.data.near_duplicates import WORDS, Hashes
from tenth.data.photo_sources import name_of_key, natural_sort_key

JOURNAL_FILE = ".people.journal"
RESTORE = "Remove it and run the same again: all photos are opened anew"
CACHE_KB = 64_000  # of the file's pages in memory
PRAGMAS = (
    "locking_mode = EXCLUSIVE",
    "journal_mode = WAL",
    "synchronous = NORMAL",
    f"cache_size = -{CACHE_KB}",
    "trusted_schema = OFF",
)
# round: the number of the run that saw it last. check: of digest and hash, for SQLite notices no turned bit in a value.
TABLES = """
CREATE TABLE IF NOT EXISTS run (round INTEGER, made_by TEXT);
CREATE TABLE IF NOT EXISTS folders (person BLOB PRIMARY KEY, facts TEXT, round INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS photos (
    id INTEGER PRIMARY KEY, person BLOB, file BLOB, state TEXT, captions TEXT, digest BLOB, hash BLOB, refused TEXT,
    round INTEGER, "check" INTEGER,
    UNIQUE (person, file)
);
"""
FACTS = [field.name for field in fields(PersonFolder) if field.name not in ("name", "photos")]
ADD_PHOTO = """
INSERT INTO photos (person, file, state, captions, round) VALUES (?, ?, ?, ?, ?) ON CONFLICT (person, file) DO UPDATE SET
    digest = CASE WHEN state = excluded.state AND "check" = check_of(digest, hash) THEN digest END,
    hash = CASE WHEN state = excluded.state AND "check" = check_of(digest, hash) THEN hash END,
    state = excluded.state, captions = excluded.captions, refused = NULL, round = excluded.round
"""


@dataclass(frozen=True)
class JournalPhoto:
    """A photo of the journal. opened, refused: one of both."""

    id: int
    person: str
    file: str
    captions: tuple[str, ...]
    digest: str
    refused: RefusedPhoto | None

    @property
    def path(self) -> str:
        """NAME/PHOTO, as the manifest has it."""
        return f"{self.person}/{self.file}"


class PhotoJournal:
    """The journal of a folder. One process uses it at a time; a damaged one, or one of another source, begins anew.

    made_by: what its content depends on besides the files. As a context manager it is closed at the end, and removed if no
    photo was opened. Raises DataError if it cannot be written.
    """

    def __init__(self, path: Path, made_by: str) -> None:
        self.path = path
        with explain_database_errors(path, RESTORE):
            self._connection = self._open()
            (known,) = self._connection.execute("SELECT max(made_by) FROM run").fetchone()
            if known != made_by:
                for table in ("run", "folders", "photos"):
                    self._connection.execute(f"DELETE FROM {table}")
                self._connection.execute("INSERT INTO run VALUES (0, ?)", (made_by,))
            self._connection.execute("UPDATE run SET round = round + 1")
            (self._round,) = self._connection.execute("SELECT round FROM run").fetchone()

    def __enter__(self) -> PhotoJournal:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(sqlite3.Error):  # of a full disk, which was told
            unused = self._connection.execute("SELECT 1 FROM photos WHERE digest NOT NULL LIMIT 1").fetchone() is None
            self._connection.close()
            if unused:
                self._remove()

    def add(self, folders: Iterable[PersonFolder]) -> None:
        """Note what was found. What was opened before of a photo stays where its file is as it was."""
        with self._transaction():
            for folder in folders:
                person, facts = _to_key(folder.name), {name: getattr(folder, name) for name in FACTS}
                self._connection.execute(
                    "INSERT OR REPLACE INTO folders VALUES (?, ?, ?)", (person, json.dumps(facts), self._round)
                )
                rows = (
                    (person, _to_key(photo.file), photo.state, json.dumps(photo.captions), self._round)
                    for photo in folder.photos
                )
                self._connection.executemany(ADD_PHOTO, rows)

    def remove_what_is_gone(self) -> None:
        """Forget what this run did not find."""
        with self._transaction():
            for table in ("folders", "photos"):
                self._connection.execute(f"DELETE FROM {table} WHERE round <> ?", (self._round,))

    def count_unopened(self) -> int:
        with explain_database_errors(self.path, RESTORE):
            query = "SELECT count(*) FROM photos WHERE digest IS NULL AND refused IS NULL"
            return int(self._connection.execute(query).fetchone()[0])

    def unopened(self, size: int) -> Iterator[tuple[tuple[str, str], ...]]:
        """(person, file) of the photos that are to be opened, at most `size` at a time. Results may be noted meanwhile."""
        last: tuple[bytes, bytes] = (b"", b"")
        query = (
            "SELECT person, file FROM photos WHERE (person, file) > (?, ?) AND digest IS NULL AND refused IS NULL"
            " ORDER BY person, file LIMIT ?"
        )
        while True:
            with explain_database_errors(self.path, RESTORE):
                rows = self._connection.execute(query, (*last, size)).fetchall()
            if not rows:
                return
            last = rows[-1]
            yield tuple((_to_name(person), _to_name(file)) for person, file in rows)

    def note(self, photos: Sequence[tuple[str, str]], results: Sequence[OpenedPhoto | RefusedPhoto]) -> None:
        """Note what became of photos, given by person and file."""
        with self._transaction():
            for (person, file), result in zip(photos, results, strict=True):
                digest, code, refused = (
                    (None, None, json.dumps(asdict(result)))
                    if isinstance(result, RefusedPhoto)
                    else (result.digest, result.hash, None)
                )
                query = 'UPDATE photos SET digest = ?, hash = ?, refused = ?, "check" = ? WHERE person = ? AND file = ?'
                values = (digest, code, refused, _check_of(digest, code))
                self._connection.execute(query, (*values, _to_key(person), _to_key(file)))

    def opened(self) -> tuple[Hashes, npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Of all opened photos in order: (N, WORDS) hashes, (N,) ids, (N,) numbers of the persons. 84 bytes a photo."""
        with explain_database_errors(self.path, RESTORE):
            (count,) = self._connection.execute("SELECT count(*) FROM photos WHERE digest NOT NULL").fetchone()
            hashes, ids = np.empty((count, WORDS), dtype=np.uint64), np.empty(count, dtype=np.int64)
            persons, number, last = np.empty(count, dtype=np.int32), -1, None
            rows = self._connection.execute("SELECT id, person, hash FROM photos WHERE digest NOT NULL ORDER BY person, file")
            for index, (photo_id, person, content) in enumerate(rows):
                number, last = number + (person != last), person
                ids[index], persons[index], hashes[index] = photo_id, number, np.frombuffer(content, dtype=np.uint64)
        return hashes, ids, persons

    def folders(self) -> Iterator[PersonFolder]:
        """All folders in order, without their photos."""
        for person, facts in self._rows("SELECT person, facts FROM folders ORDER BY person"):
            values: dict[str, Any] = json.loads(facts)
            yield PersonFolder(_to_name(person), **{name: _frozen(value) for name, value in values.items()})

    def photos(self) -> Iterator[JournalPhoto]:
        """All photos in order."""
        yield from map(_from_row, self._rows(f"{SELECT_PHOTO} ORDER BY person, file"))

    def photo(self, photo_id: int) -> JournalPhoto:
        """One photo of `opened`."""
        return _from_row(next(self._rows(f"{SELECT_PHOTO} WHERE id = ?", photo_id)))

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with explain_database_errors(self.path, RESTORE):
            yield from self._connection.execute(query, values)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All changes of the block or none. A killed process loses none that has ended."""
        with explain_database_errors(self.path, RESTORE):
            self._connection.execute("BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it already
                    self._connection.execute("ROLLBACK")
                raise

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as problem:
            if isinstance(problem, sqlite3.OperationalError):
                raise
        self._remove()  # it is damaged, and can be made again
        return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            connection.create_function("check_of", 2, _check_of, deterministic=True)
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(TABLES)
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        except BaseException:
            connection.close()
            raise
        return connection

    def _remove(self) -> None:
        for path in (self.path, *(self.path.with_name(f"{self.path.name}{ending}") for ending in ("-wal", "-shm", "-journal"))):
            path.unlink(missing_ok=True)


SELECT_PHOTO = "SELECT id, person, file, captions, digest, refused FROM photos"


def _check_of(digest: bytes | None, code: bytes | None) -> int | None:
    """crc32 of what was computed of a photo, None where nothing was."""
    return zlib.crc32(digest + code) if isinstance(digest, bytes) and isinstance(code, bytes) else None


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _from_row(row: tuple[Any, ...]) -> JournalPhoto:
    photo_id, person, file, captions, digest, refused = row
    why = RefusedPhoto(**json.loads(refused)) if refused else None
    return JournalPhoto(photo_id, _to_name(person), _to_name(file), tuple(json.loads(captions)), (digest or b"").hex(), why)


def _to_key(name: str) -> bytes:
    """Sorts as `natural_sort_key` does, also of a name that is no valid Unicode."""
    return natural_sort_key(name).encode(errors="surrogatepass")


def _to_name(key: bytes) -> str:
    return name_of_key(key.decode(errors="surrogatepass"))
