"""The server's database: SQLite with a write-ahead log, which any number of processes and threads open.

Each thread has a connection of its own. Whatever is committed is on the disk, also after a power failure, but for what may be
lost without harm. Deleted rows are overwritten with zeros at once; `purge` also removes them from the log.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files import database_errors
from tenth.core.files.database_errors import DISK_ERRORS, error_code
from tenth.core.files.reading import read_bytes
from tenth.core.files.writing import DISK_FULL_ERRNOS, PRIVATE_FILE_MODE, make_private_folder, write_bytes
from tenth.server.storage.migrations import MIGRATIONS

DATABASE_FILE, BLOBS_FOLDER = "server.db", "blobs"
GENERATION_FILE, GENERATION_CHARS = "blobs.generation", 32  # which state of the database last put its files in order
BUSY_SECONDS = 30.0  # how long one process waits for the others' writes
PRAGMAS = (
    f"busy_timeout = {BUSY_SECONDS * 1000:.0f}",
    "foreign_keys = ON",
    "secure_delete = ON",
    "trusted_schema = OFF",
)


class Database:
    """The database of a data folder, which is created for its owner alone.

    folder: the data folder. Raises DataError if it cannot be written, or the file is damaged or of a newer version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = make_private_folder(folder)
        self.path = self.folder / DATABASE_FILE
        self._local = threading.local()
        self._writing = (
            threading.Lock()
        )  # for this process's threads: SQLite itself only looks again after longer and longer pauses
        self._migrate()

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection."""
        known: tuple[int, sqlite3.Connection] | None = getattr(self._local, "connection", None)
        if known is None or known[0] != os.getpid():  # a connection must not be carried over a fork
            known = os.getpid(), self._connect()
            self._local.connection = known
        return known[1]

    def close(self) -> None:
        """Close this thread's connection."""
        known = self._local.__dict__.pop("connection", None)
        if known is not None:
            known[1].close()

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All changes of the block or none. Only one transaction runs at a time, in all processes.

        durable: it is on the disk at the end of the block, else with the next one that is: a power failure before undoes it.
        Raises DataError.
        """
        with self._writing, explain_database_errors(self.path):
            connection = self.connection
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk may have ended it already
                    connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: Sequence[object] = ()) -> list[sqlite3.Row]:
        """All rows of a query. Raises DataError."""
        with explain_database_errors(self.path):
            return self.connection.execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[object] = ()) -> sqlite3.Row | None:
        """The first row of a query. Raises DataError."""
        return next(iter(self.rows(query, values)), None)

    def job_folder(self, job_id: str) -> Path:
        """Where a job that is not done keeps its files."""
        return self.folder / "jobs" / job_id

    def next_generation(self) -> bool:
        """Whether this is the database that last put the files in order; then both say so from now on, until the next time.

        False for an older one that was put back: it does not know which files have come since. Where the file is not there,
        it is taken for the one.
        """
        path = self.folder / GENERATION_FILE
        try:
            known = read_bytes(path, GENERATION_CHARS).decode("ascii", "replace")
        except FileNotFoundError:
            known = None
        with self.transaction() as transaction:
            generations = tuple(transaction.execute("SELECT current, previous FROM generation").fetchone())
            if known is not None and known not in generations:
                return False

            # The database first: whoever is killed before the file is written has its value as the previous one.
            current = secrets.token_hex(GENERATION_CHARS // 2)
            transaction.execute("UPDATE generation SET current = ?, previous = ?", (current, known or current))
        write_bytes(path, current.encode(), PRIVATE_FILE_MODE)
        return True

    def purge(self) -> None:
        """Remove every trace of deleted rows from the database file and its log.

        Raises DataError if another process reads for so long that the log cannot be emptied.
        """
        deadline = time.monotonic() + BUSY_SECONDS
        with explain_database_errors(self.path):
            self.connection.execute("VACUUM")
            while self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    found, needed = f"{self.path} is being read", "its log is emptied only while nobody reads it"
                    raise DataError(found, needed, "Run the same again, or stop the server first")
                time.sleep(0.05)

    def _connect(self) -> sqlite3.Connection:
        with explain_database_errors(self.path):
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
            return connection

    def _migrate(self) -> None:
        with explain_database_errors(self.path):
            version = self.connection.execute("PRAGMA user_version").fetchone()[0]
            if version == len(MIGRATIONS):
                return
            if version > len(MIGRATIONS):
                found, needed = f"{self.path} has version {version}", f"version {len(MIGRATIONS)} or an older one is needed"
                raise DataError(found, needed, "Install a newer tenth, or choose another data folder")
            self.path.chmod(PRIVATE_FILE_MODE)  # its log gets the same permissions
            self._use_log()
        with self.transaction() as transaction:
            # Another process may have done it meanwhile.
            version = transaction.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._require_no_files()
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements:
                    transaction.execute(statement)
                transaction.execute(f"PRAGMA user_version = {number}")

    def _require_no_files(self) -> None:
        """Raises DataError if there are files of a database that is gone: to a new one they were nobody's, and removed."""
        blobs = self.folder / BLOBS_FOLDER
        if any(path.is_file() for path in blobs.rglob("*")):
            found, needed = f"{blobs} has pictures, but {DATABASE_FILE} is gone", "what says whose they are is needed"
            raise DataError(found, needed, f"Restore it from a copy, or move {BLOBS_FOLDER} away to begin anew")
        (self.folder / GENERATION_FILE).unlink(missing_ok=True)

    def _use_log(self) -> None:
        """Switch to the write-ahead log, for which SQLite does not wait when another process does the same."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as problem:
                if error_code(problem) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def insert(transaction: sqlite3.Connection, table: str, **values: object) -> None:
    """Add a row to a table."""
    marks = ", ".join("?" * len(values))
    transaction.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))


def change_number(transaction: sqlite3.Connection) -> int:
    """The next value of the counter of changes, which only grows."""
    return int(transaction.execute("UPDATE counter SET value = value + 1 RETURNING value").fetchone()[0])


def is_disk_full(problem: BaseException) -> bool:
    """Whether an error, or the one behind it, is a disk that takes no more."""
    full = (each for each in _with_causes(problem) if isinstance(each, OSError) and each.errno in DISK_FULL_ERRNOS)
    return any(full) or database_code(problem) in DISK_ERRORS


def is_busy(problem: BaseException) -> bool:
    """Whether an error, or the one behind it, is a database to which another process writes for long."""
    return database_code(problem) == sqlite3.SQLITE_BUSY


def database_code(problem: BaseException) -> int:
    """SQLite's primary code of an error, or of the one behind it; 0 if a database is not what failed."""
    return next((error_code(each) for each in _with_causes(problem) if isinstance(each, sqlite3.Error)), 0)


def _with_causes(problem: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = problem
    while cause is not None:
        yield cause
        cause = cause.__cause__


def explain_database_errors(path: Path) -> AbstractContextManager[None]:
    """Turn SQLite's errors about the file in the block into DataError."""
    return database_errors.explain_database_errors(path, f"Restore it from a copy, or move it and {BLOBS_FOLDER} away")
