"""SQLite's errors about its file, as errors of three parts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tenth.core.errors import DataError

DISK_ERRORS = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


@contextmanager
def explain_database_errors(path: Path, restore: str) -> Iterator[None]:
    """Turn SQLite's errors about the file in the block into DataError. restore: what to do if it is damaged."""
    try:
        yield
    except sqlite3.Error as problem:
        explanations: dict[int, tuple[str, str]] = {
            **dict.fromkeys(DISK_ERRORS, ("room on a disk that works is needed", "Make room and run the same again")),
            sqlite3.SQLITE_BUSY: ("another process writes to it for too long", "Run the same again"),
            sqlite3.SQLITE_READONLY: ("a file that can be written is needed", "Change its permissions"),
            sqlite3.SQLITE_CANTOPEN: ("a file that can be written is needed", "Change its permissions"),
            sqlite3.SQLITE_NOTADB: ("a database of tenth is needed", restore),
            sqlite3.SQLITE_CORRUPT: ("an undamaged database is needed", restore),
        }
        if (code := error_code(problem)) not in explanations:
            raise
        raise DataError(f"{path} cannot be used ({problem})", *explanations[code]) from problem


def error_code(problem: sqlite3.Error) -> int:
    """The primary code of an error; 0 if it is none of SQLite itself."""
    return int(getattr(problem, "sqlite_errorcode", 0)) & 0xFF
