"""Nothing of a person is left, in whatever file of the data folder."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.server.queue.job import JobCancelled
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.storage import database as database_module
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.forget import forget_person
from tenth.server.storage.pictures import Pictures
from toy_jobs import done_job, result, submit

NAME = "Zebulon Quixote"


def files_with(folder: Path, *contents: bytes) -> list[str]:
    """The files that hold one of some bytes."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path.relative_to(folder)) for path in paths if any(each in path.read_bytes() for each in contents)]


def test_no_byte_of_a_person_is_left(
    queue: JobQueue, leases: Leases, pictures: Pictures, blobs: Blobs, database: Database, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    others = [done_job(queue, leases, made, seed, owner=owner, person="anna") for seed, owner in ((1, ""), (2, "ben"))]
    jobs = [done_job(queue, leases, made, seed, 100 + seed, person=NAME) for seed in range(3, 60)]
    shared = done_job(queue, leases, made, 1, person=NAME)  # the same pixels as another person's
    same_name = done_job(queue, leases, made, 3, owner="ben", person=NAME)  # somebody else's
    with database.transaction() as transaction:
        photo = blobs.use(transaction, b"a photo of a face", f"job:{jobs[0].id}")
    pictures.keep_thumbnail(jobs[0].pictures[0], "", b"a small face")
    waiting = submit(queue, 300, person=NAME)
    (database.job_folder(waiting.id) / "work").mkdir(parents=True)
    (database.job_folder(waiting.id) / "work/0.png").write_bytes(b"half a face")
    hashes = [picture.sha256 for picture in pictures.page("", NAME, limit=500)]
    assert files_with(database.folder, NAME.encode()) != []

    # One copy of the database is copied aside: the search would find the name in it.
    removed = forget_person(database, blobs, "", NAME)
    assert removed == {"jobs": 59, "pictures": 115, "files": 115}
    ids = [each for job in (*jobs, shared, waiting) for each in (job.id, *job.pictures)]
    contents = [b"a small face", b"half a face", *(each.encode() for each in ids)]
    assert files_with(database.folder, *contents) == []
    kept = {picture.sha256 for owner in ("", "ben") for picture in pictures.page(owner)}
    assert files_with(database.folder, *(each.encode() for each in {*hashes, photo} - kept)) == []
    assert {path.name for path in blobs.folder.rglob("*") if path.is_file()} == kept
    assert [len(pictures.page(owner)) for owner in ("", "ben")] == [1, 2]
    assert [queue.get(job.id, owner) is None for job, owner in zip(others, ("", "ben"), strict=True)] == [False, False]

    forget_person(database, blobs, "ben", NAME)
    assert queue.get(same_name.id, "ben") is None
    assert files_with(database.folder, NAME.encode()) == []


def test_the_log_is_emptied_also_while_others_have_the_database_open(
    queue: JobQueue, leases: Leases, blobs: Blobs, database: Database, tmp_path: Path
) -> None:
    other = Database(database.folder)
    assert other.row("SELECT count(*) FROM jobs") is not None
    done_job(queue, leases, tmp_path, 1, person=NAME)
    assert NAME.encode() in database.path.with_name("server.db-wal").read_bytes()
    forget_person(database, blobs, "", NAME)
    assert database.path.with_name("server.db-wal").read_bytes() == b""
    assert files_with(database.folder, NAME.encode()) == []
    assert JobQueue(other).list("") == []


def test_a_reader_who_stays_is_said_and_what_was_begun_is_done_the_next_time(
    queue: JobQueue, leases: Leases, blobs: Blobs, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done_job(queue, leases, tmp_path, 1, person=NAME)
    reader = Database(database.folder)
    reader.connection.execute("BEGIN")
    reader.rows("SELECT * FROM jobs")
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.2)
    database.connection.execute("PRAGMA busy_timeout = 100")
    with pytest.raises(DataError, match="Run the same again"):
        forget_person(database, blobs, "", NAME)
    reader.connection.execute("COMMIT")
    assert forget_person(database, blobs, "", NAME) == {"jobs": 0, "pictures": 0, "files": 0}
    assert files_with(database.folder, NAME.encode()) == []


def test_a_job_that_runs_registers_nothing_after_its_person_was_forgotten(
    queue: JobQueue, leases: Leases, blobs: Blobs, database: Database, pictures: Pictures, tmp_path: Path
) -> None:
    submit(queue, person=NAME)
    job = leases.claim()
    assert job is not None
    forget_person(database, blobs, "", NAME)
    for call in (lambda: leases.progress(job, 1, 2), lambda: leases.finish(job, result(tmp_path, 1))):
        with pytest.raises(JobCancelled):
            call()
    assert pictures.count("") == 0


def test_forgetting_waits_for_who_writes(queue: JobQueue, blobs: Blobs, database: Database) -> None:
    submit(queue, person=NAME)
    other, begun = Database(database.folder), threading.Event()

    def write() -> None:
        with other.transaction():
            begun.set()
            time.sleep(0.3)

    thread = threading.Thread(target=write)
    thread.start()
    begun.wait()
    assert forget_person(database, blobs, "", NAME)["jobs"] == 1
    thread.join()
