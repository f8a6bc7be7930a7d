"""A disk that is full: what waits says so, nothing half has a final name, and all goes on when there is room.

The limit is the system's for this process's files: they grow so far and no further, as on a full disk.
"""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.core.marks.png import write_png
from tenth.server.queue import worker as worker_module
from tenth.server.queue.job import Job, JobResult, NewPicture, Reporter
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.queue.worker import Worker
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database, is_disk_full
from tenth.server.storage.pictures import Pictures
from toy_jobs import done_job, submit

ROOM_FOR_ROWS = 1_500_000  # bytes of a file: of the database's log enough, of a picture too few


@contextmanager
def files_at_most(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def size_of_log(database: Database) -> int:
    return database.path.with_name(f"{database.path.name}-wal").stat().st_size


def large_picture(job: Job, reporter: Reporter) -> JobResult:
    """A picture of noise, of some two megabytes."""
    pixels = np.random.default_rng(0).integers(0, 256, (800, 900, 3), dtype=np.uint8)
    write_png(reporter.folder / "0.png", Image.fromarray(pixels))
    return JobResult([NewPicture(reporter.folder / "0.png", 0)])


def let_try_again(database: Database) -> None:
    with database.transaction() as transaction:
        transaction.execute("UPDATE jobs SET not_before = 0")


def work_one(worker: Worker) -> Job:
    job = worker.leases.claim()
    assert job is not None
    worker.work(job)
    ended = JobQueue(worker.database).get(job.id, "")
    assert ended is not None
    return ended


def test_a_job_whose_picture_finds_no_room_says_so_and_waits(
    queue: JobQueue, database: Database, blobs: Blobs, pictures: Pictures
) -> None:
    submit(queue)
    worker = Worker(database.folder, large_picture)
    for _ in range(4):  # more often than a job may fail
        with files_at_most(ROOM_FOR_ROWS):
            waiting = work_one(worker)
        assert (waiting.status, waiting.attempts) == ("queued", 0)
        assert waiting.error is not None
        assert "cannot be written (File too large)" in waiting.error["found"]
        assert waiting.error["action"] == "Make room: the job goes on by itself then"
        assert worker.leases.claim() is None  # not at once
        let_try_again(database)
    assert [path for path in database.folder.rglob("*") if path.suffix in (".png", ".part")] == []
    done = work_one(worker)
    assert (done.status, done.error, len(done.pictures)) == ("done", None, 1)
    assert pictures.count("") == 1


def test_a_result_that_finds_no_room_among_the_files_is_registered_later(
    queue: JobQueue, database: Database, blobs: Blobs, pictures: Pictures
) -> None:
    def beyond(job: Job, reporter: Reporter) -> JobResult:
        made = large_picture(job, reporter)
        resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM_FOR_ROWS, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return made

    submit(queue)
    worker = Worker(database.folder, beyond)
    with files_at_most(resource.RLIM_INFINITY):
        waiting = work_one(worker)
    assert (waiting.status, waiting.pictures, pictures.count("")) == ("queued", (), 0)
    assert [path for path in blobs.folder.rglob("*") if path.is_file()] == []
    assert (database.job_folder(waiting.id) / "work/0.png").exists()  # what it made already stays
    let_try_again(database)
    assert work_one(Worker(database.folder, large_picture)).status == "done"


def test_a_job_that_the_database_has_no_room_for_is_refused_and_nothing_is_lost(
    queue: JobQueue, leases: Leases, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("made")
    done = done_job(queue, leases, folder, 0)
    with files_at_most(size_of_log(database)):
        for seed in (1, 2):
            with pytest.raises(DataError, match="Make room") as problem:
                submit(queue, seed)
            assert is_disk_full(problem.value)
        assert queue.get(done.id, "") == done  # what is there can be read
    assert queue.list("") == [done]
    assert submit(queue, 1).status == "queued"
    assert [tuple(row) for row in database.rows("PRAGMA integrity_check")] == [("ok",)]


def test_a_worker_waits_until_the_database_has_room_and_the_job_is_done_then(
    queue: JobQueue, database: Database, pictures: Pictures, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fill_disk(job: Job, reporter: Reporter) -> JobResult:
        made = large_picture(job, reporter)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_of_log(database), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        make_room.start()
        return made

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    make_room = threading.Timer(0.5, resource.setrlimit, (resource.RLIMIT_FSIZE, before))
    monkeypatch.setattr(worker_module, "DISK_SECONDS", 0.1)
    submit(queue)
    waiting = work_one(Worker(database.folder, fill_disk))
    make_room.join()
    assert waiting.status == "queued"
    assert waiting.error is not None
    assert "Make room" in waiting.error["action"]
    assert pictures.count("") == 0
    assert "cannot be used" in capfd.readouterr().err  # who looks at the log sees why nothing goes on
    time.sleep(0.15)
    assert work_one(Worker(database.folder, large_picture)).status == "done"
    assert pictures.count("") == 1


def test_an_upload_that_finds_no_room_leaves_nothing(blobs: Blobs) -> None:
    with files_at_most(1000), pytest.raises(DataError, match="room on the disk is needed"):
        blobs.put(bytes(2000))
    assert [path for path in blobs.folder.rglob("*") if path.is_file()] == []
