"""Files by the sha256 of their content, which stay as long as something uses them.

A file is `blobs/ab/abcdef...`, for its owner alone to read. A use is a row of the database, such as `picture:ID`. A file is
on the disk before a transaction says that it is used, and is removed only after a transaction has removed its last use.
"""

from __future__ import annotations

import errno
import hashlib
import re
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.claims import list_entries, remove_temporary
from tenth.core.files.reading import read_bytes
from tenth.core.files.writing import PRIVATE_FILE_MODE, make_private_folder, write_bytes
from tenth.server.storage.database import BLOBS_FOLDER, Database

HASH = re.compile(r"[0-9a-f]{64}")
MAX_BLOB_BYTES = 1 << 30
RELEASED = "released"  # the holder of files that go unless they have another
BATCH = 100  # files that are removed while everybody else waits
ORPHAN_SECONDS = 3600.0  # after which a file that nothing uses was left by a process that was killed


def blob_path(data: Path, sha256: str) -> Path:
    """The path of a file in a data folder, whether it is there or not. Raises DataError for what is no sha256."""
    if not HASH.fullmatch(sha256):
        raise DataError(f"{sha256!r:.100}", "a sha256 in hexadecimal is needed", "Give that of an uploaded file")
    return data / BLOBS_FOLDER / sha256[:2] / sha256


def job_holder(job_id: str) -> str:
    """The holder of the photos that were uploaded for a job, until it is done, or ended otherwise a day ago."""
    return f"job:{job_id}"


class Blobs:
    """The files of a data folder."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.folder = make_private_folder(database.folder / BLOBS_FOLDER)

    def path(self, sha256: str) -> Path:
        """The path of a file, whether it is there or not. Raises DataError for what is no sha256."""
        return blob_path(self.database.folder, sha256)

    def put(self, content: bytes) -> str:
        """Keep a content; its sha256. It goes again unless it is used. Raises DataError if the disk is full."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.path(sha256)
        if not path.exists():
            make_private_folder(path.parent)
            write_bytes(path, content, PRIVATE_FILE_MODE)
        return sha256

    def read(self, sha256: str) -> bytes:
        """The content. Raises FileNotFoundError if it is not there, or the file was damaged."""
        path = self.path(sha256)
        content = read_bytes(path, MAX_BLOB_BYTES)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise FileNotFoundError(errno.ENOENT, "damaged", str(path))
        return content

    def use(self, transaction: sqlite3.Connection, content: bytes, holder: str, until: float | None = None) -> str:
        """Keep a content that a holder uses; its sha256. The use is void after the time `until`, in seconds since 1970.

        Within a transaction no file is removed. Call `put` before it: then nobody waits for the disk here.
        """
        sha256 = self.put(content)
        self.share(transaction, sha256, holder, until)
        return sha256

    def share(self, transaction: sqlite3.Connection, sha256: str, holder: str, until: float | None = None) -> bool:
        """Let a holder use a file that is there; False if it is not."""
        if not self.path(sha256).exists():
            return False
        transaction.execute("INSERT OR REPLACE INTO blob_uses VALUES (?, ?, ?)", (sha256, holder, until))
        return True

    def holds(self, holder: str, sha256: str) -> bool:
        """Whether a holder uses a file, and the use is not void."""
        query = "SELECT 1 FROM blob_uses WHERE sha256 = ? AND holder = ? AND coalesce(until > ?, 1)"
        return self.database.row(query, (sha256, holder, time.time())) is not None

    def held(self, holder: str, limit: int = -1) -> tuple[str, ...]:
        """The files that a holder uses, in the order of their names. limit: at most so many, -1 for all."""
        query = "SELECT sha256 FROM blob_uses WHERE holder = ? ORDER BY 1 LIMIT ?"
        return tuple(row[0] for row in self.database.rows(query, (holder, limit)))

    @staticmethod
    def release(transaction: sqlite3.Connection, holder: str) -> None:
        """Remove all uses of a holder. Call `remove_unused` after the transaction."""
        rows = transaction.execute("DELETE FROM blob_uses WHERE holder = ? RETURNING sha256", (holder,)).fetchall()
        _mark_released(transaction, [row["sha256"] for row in rows])

    def remove_unused(self) -> int:
        """Remove the files that were released, here or by a process that was killed then, and that nothing uses; how many."""
        removed = 0
        while self.held(RELEASED, limit=1):  # else nobody has to wait
            with self.database.transaction() as transaction:  # while it runs no file gets a use
                query = "DELETE FROM blob_uses WHERE sha256 IN (SELECT sha256 FROM blob_uses WHERE holder = ? LIMIT ?)"
                query += " AND holder = ? RETURNING sha256"
                hashes = [row["sha256"] for row in transaction.execute(query, (RELEASED, BATCH, RELEASED)).fetchall()]
                for sha256 in hashes:
                    used = transaction.execute("SELECT 1 FROM blob_uses WHERE sha256 = ?", (sha256,)).fetchone()
                    if used is None and self.path(sha256).exists():
                        self.path(sha256).unlink()
                        removed += 1
        return removed

    def remove_expired(self) -> int:
        """Remove uses that are void, and the files that nothing uses then; how many files those were."""
        with self.database.transaction() as transaction:
            query = "DELETE FROM blob_uses WHERE until < ? RETURNING sha256"
            _mark_released(transaction, [row["sha256"] for row in transaction.execute(query, (time.time(),)).fetchall()])
        return self.remove_unused()

    def remove_orphans(self, older_than: float = ORPHAN_SECONDS) -> int:
        """Remove files without a use that are older than some seconds: a killed process left them. How many those were."""
        remove_temporary(self.folder)
        before = time.time() - older_than
        for name in sorted(list_entries(self.folder)):
            query = "SELECT DISTINCT sha256 FROM blob_uses WHERE sha256 BETWEEN ? AND ?"
            used = {row["sha256"] for row in self.database.rows(query, (name, f"{name}g"))}
            paths = [path for path in (self.folder / name).iterdir() if HASH.fullmatch(path.name) and path.name not in used]
            if orphans := [path.name for path in paths if path.stat().st_mtime <= before]:
                with self.database.transaction() as transaction:
                    _mark_released(transaction, orphans)
        return self.remove_unused()


def _mark_released(transaction: sqlite3.Connection, hashes: Iterable[str]) -> None:
    unused = "SELECT ?1, ?2, 0 WHERE NOT EXISTS (SELECT 1 FROM blob_uses WHERE sha256 = ?1 AND holder <> ?2)"
    transaction.executemany(f"INSERT OR REPLACE INTO blob_uses {unused}", [(sha256, RELEASED) for sha256 in hashes])
