"""The database: its migrations, its permissions, and what is said of a file that is none."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.storage import database as database_module
from tenth.server.storage.blobs import Blobs, blob_path
from tenth.server.storage.database import BLOBS_FOLDER, DATABASE_FILE, Database, change_number, is_disk_full
from tenth.server.storage.migrations import MIGRATIONS
from toy_jobs import result, submit

OPEN = """import sys
from tenth.server.storage.database import Database
print(len(Database(sys.argv[1]).rows("SELECT * FROM jobs")))"""


def test_the_files_are_for_their_owner_alone(database: Database) -> None:
    with database.transaction() as transaction:
        change_number(transaction)
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in database.folder.iterdir()}
    assert files == {f"{DATABASE_FILE}{suffix}": 0o600 for suffix in ("", "-wal", "-shm")}
    assert stat.S_IMODE(database.folder.stat().st_mode) == 0o700


def test_what_is_committed_is_on_the_disk_and_what_is_deleted_is_overwritten(database: Database) -> None:
    pragmas = ("journal_mode", "secure_delete", "foreign_keys", "user_version")
    found = {name: database.rows(f"PRAGMA {name}")[0][0] for name in pragmas}
    assert found == {
        "journal_mode": "wal", "secure_delete": 1, "foreign_keys": 1, "user_version": len(MIGRATIONS),
    }  # fmt: skip
    for durable, synchronous in ((False, 1), (True, 2)):
        with database.transaction(durable=durable) as transaction:
            assert transaction.execute("PRAGMA synchronous").fetchone()[0] == synchronous


def test_what_must_not_be_lost_is_flushed_and_leases_are_not(
    queue: JobQueue, leases: Leases, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[bool] = []
    transaction = database.transaction

    def watched(*, durable: bool = True) -> AbstractContextManager[sqlite3.Connection]:
        flushed.append(durable)
        return transaction(durable=durable)

    monkeypatch.setattr(database, "transaction", watched)
    submit(queue)
    job = leases.claim()
    assert job is not None
    leases.renew(job)
    leases.progress(job, 1, 2)
    leases.finish(job, result(tmp_path, 0))
    queue.cancel(submit(queue, 1).id, "")
    assert flushed == [True, False, False, False, True, True, True]


def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    def interrupted() -> None:
        with database.transaction() as transaction:
            assert change_number(transaction) == 1
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    with database.transaction() as transaction:
        assert change_number(transaction) == 1


def test_later_migrations_are_applied_to_what_is_there_all_or_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as transaction:
        change_number(transaction)
    step = ("ALTER TABLE counter ADD COLUMN note TEXT", "UPDATE counter SET note = 'moved'")
    monkeypatch.setattr(database_module, "MIGRATIONS", (*MIGRATIONS, (*step, "no SQL")))
    with pytest.raises(sqlite3.OperationalError):
        Database(database.folder)
    assert dict(database.rows("SELECT * FROM counter")[0]) == {"value": 1}
    monkeypatch.setattr(database_module, "MIGRATIONS", (*MIGRATIONS, step))
    moved = Database(database.folder)
    assert dict(moved.rows("SELECT * FROM counter")[0]) == {"value": 1, "note": "moved"}
    monkeypatch.undo()
    with pytest.raises(DataError, match="version 2"):
        Database(database.folder)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_text("no database, but a text that is long enough to be taken for one" * 100)
    with pytest.raises(DataError, match="not a database"):
        Database(tmp_path)
    assert (tmp_path / DATABASE_FILE).read_text().startswith("no database")


def test_a_page_that_is_damaged_is_said_to_be(database: Database) -> None:
    database.purge()
    database.close()
    content = bytearray(database.path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)
    database.path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be used"):
        Database(database.folder).rows("SELECT * FROM jobs")


@pytest.mark.slow
def test_many_processes_may_open_a_new_folder_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OPEN, str(tmp_path / "data")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(6)]
    assert [process.communicate()[0] for process in processes] == [b"0\n"] * 6


def test_a_child_process_has_a_connection_of_its_own(database: Database) -> None:
    mine = database.connection
    assert database.connection is mine
    child = os.fork()
    if child == 0:
        os._exit(int(database.connection is mine))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_an_error_of_a_full_disk_is_told_from_others() -> None:
    full, error = OSError(28, "full"), DataError("a", "b", "c")
    error.__cause__ = full
    assert is_disk_full(full)
    assert is_disk_full(error)
    assert not is_disk_full(OSError(2, "missing"))
    assert not is_disk_full(DataError("a", "b", "c"))
    with pytest.raises(sqlite3.OperationalError) as problem:
        small().executescript("CREATE TABLE t (a); INSERT INTO t VALUES (zeroblob(100000))")
    assert is_disk_full(problem.value)


def small() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA max_page_count = 2")
    return connection


def test_files_whose_database_is_gone_are_not_taken_for_nobodys(database: Database) -> None:
    sha256 = Blobs(database).put(b"a picture")
    database.close()
    for suffix in ("", "-wal", "-shm"):
        (database.folder / f"{DATABASE_FILE}{suffix}").unlink(missing_ok=True)
    for _ in range(2):  # an empty one that is there now is none, either
        with pytest.raises(DataError, match=r"blobs has pictures, but server\.db is gone"):
            Database(database.folder)
    assert blob_path(database.folder, sha256).read_bytes() == b"a picture"
    (database.folder / BLOBS_FOLDER).rename(database.folder / "moved")
    assert Database(database.folder).rows("SELECT * FROM jobs") == []
