"""The queue as its workers see it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.server.queue.job import MAX_ATTEMPTS, JobResult, LeaseLost, NewPicture
from tenth.server.queue.leases import STOPPED, Leases, is_gone, worker_name
from tenth.server.queue.queue import JobQueue
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import Pictures
from toy_jobs import result, submit

ERROR = {"found": "a", "needed": "b", "action": "c"}


def test_a_job_is_claimed_once(queue: JobQueue, database: Database) -> None:
    submit(queue)
    one, two = Leases(database, "one"), Leases(database, "two")
    job = one.claim()
    assert job is not None
    assert (job.status, job.attempts, job.started is None) == ("running", 1, False)
    assert two.claim() is None
    assert one.claim() is None


def test_a_done_job_has_its_pictures_and_nobody_makes_it_done_twice(
    queue: JobQueue, leases: Leases, pictures: Pictures, blobs: Blobs, tmp_path: Path
) -> None:
    submit(queue)
    job = leases.claim()
    assert job is not None
    made = result(tmp_path, 3, 4)
    done = leases.finish(job, JobResult(made.pictures, {"seconds": 2}))
    assert (done.status, done.values, len(done.pictures)) == ("done", {"seconds": 2}, 2)
    with pytest.raises(LeaseLost):
        leases.finish(job, made)
    shown = [pictures.get(each, "") for each in done.pictures]
    assert [picture.seed for picture in shown if picture] == [3, 4]
    assert [blobs.read(picture.sha256) for picture in shown if picture] == [each.path.read_bytes() for each in made.pictures]
    assert pictures.count("") == 2


def test_a_picture_that_cannot_be_registered_leaves_nothing_done(
    queue: JobQueue, leases: Leases, pictures: Pictures, tmp_path: Path
) -> None:
    submit(queue)
    job = leases.claim()
    assert job is not None
    made = result(tmp_path, 3, 4)
    (tmp_path / "text.png").write_text("no picture")
    for wrong in (NewPicture(tmp_path / "text.png", 0), NewPicture(made.pictures[1].path, "seven")):  # type: ignore[arg-type]
        with pytest.raises((DataError, Exception)):
            leases.finish(job, JobResult([made.pictures[0], wrong]))
        assert pictures.count("") == 0
        leases.require(job)  # still this worker's


def test_a_lease_that_ran_out_is_claimed_again_and_the_first_worker_has_lost_it(
    queue: JobQueue, database: Database, pictures: Pictures, tmp_path: Path
) -> None:
    submit(queue)
    one, two = Leases(database, "one"), Leases(database, "two")
    first = one.claim(lease_seconds=-1)
    assert first is not None
    second = two.claim()
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    for call in (
        lambda: one.finish(first, result(tmp_path, 0)),
        lambda: one.renew(first),
        lambda: one.progress(first, 1, 2),
        lambda: one.fail(first, ERROR, retry=True),
        lambda: one.postpone(first, ERROR, 0),
    ):
        with pytest.raises(LeaseLost):
            call()
    assert pictures.count("") == 0
    assert two.finish(second, result(tmp_path, 0)).status == "done"
    assert pictures.count("") == 1


def test_a_lease_that_is_renewed_stays(queue: JobQueue, database: Database) -> None:
    submit(queue)
    one, two = Leases(database, "one"), Leases(database, "two")
    job = one.claim(lease_seconds=-1)
    assert job is not None
    one.renew(job)
    assert two.claim() is None


def test_a_worker_that_dies_again_and_again_at_one_place_fails_its_job(queue: JobQueue, database: Database) -> None:
    submit(queue)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        leases = Leases(database, f"worker {attempt}")
        job = leases.claim(lease_seconds=-1)
        assert job is not None
        assert job.attempts == attempt
        leases.progress(job, 2, 10, lease_seconds=-1)  # no further than the one before
    assert leases.claim() is None
    (failed,) = queue.list("")
    assert (failed.status, failed.error) == ("failed", STOPPED)


def test_a_job_that_gets_further_each_time_goes_on(queue: JobQueue, database: Database) -> None:
    submit(queue)
    for attempt in range(10):
        leases = Leases(database, f"worker {attempt}")
        job = leases.claim(lease_seconds=-1)
        assert job is not None
        leases.progress(job, attempt + 1, 10, lease_seconds=-1)
    assert leases.claim() is not None


def test_errors_are_tried_again_three_times_in_all(queue: JobQueue, leases: Leases) -> None:
    submit(queue)
    for status in ("queued", "queued", "failed"):
        job = leases.claim()
        assert job is not None
        assert leases.fail(job, ERROR, retry=True).status == status
    assert leases.claim() is None


def test_what_waits_for_the_disk_says_so_and_counts_no_attempt(queue: JobQueue, leases: Leases, database: Database) -> None:
    submit(queue)
    for _ in range(2 * MAX_ATTEMPTS):
        job = leases.claim()
        assert job is not None
        waiting = leases.postpone(job, ERROR, 60)
        assert (waiting.status, waiting.error, waiting.attempts) == ("queued", ERROR, 0)
        assert leases.claim() is None
        with database.transaction() as transaction:
            transaction.execute("UPDATE jobs SET not_before = 0")
    assert leases.claim() is not None


def test_the_job_of_a_process_that_is_gone_is_claimed_at_once(queue: JobQueue, database: Database) -> None:
    submit(queue)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        name = worker_name(process.pid)
        assert Leases(database, name).claim() is not None
        assert not is_gone(name)
        assert Leases(database, "other").claim() is None
        process.kill()
        process.wait()
    assert is_gone(name)
    again = Leases(database, "other").claim()
    assert again is not None
    assert again.attempts == 2


def test_a_process_that_has_got_the_id_of_another_is_not_it() -> None:
    host, process_id, start = worker_name().split(" ")
    assert not is_gone(worker_name())
    assert is_gone(f"{host} {process_id} {float(start) - 100}")
    assert not is_gone(f"elsewhere {process_id} {float(start) - 100}")  # nobody knows
    assert not is_gone("worker")


def test_a_claim_looks_at_no_more_jobs_where_more_of_them_wait(queue: JobQueue, database: Database, leases: Leases) -> None:
    queue.max_queued, steps, counts = 2000, [0], []

    def count() -> int:
        steps[0] += 1
        return 0

    database.connection.set_progress_handler(count, 10)  # instructions of SQLite
    for number in (20, 300):
        for seed in range(number):
            submit(queue, seed)
        leases.claim()  # the first time it looks which workers live
        steps[0] = 0
        assert leases.claim() is not None
        counts.append(steps[0])
    assert counts[1] < 2 * counts[0]


def test_an_idle_worker_keeps_nobody_from_writing(leases: Leases, database: Database, tmp_path: Path) -> None:
    leases.claim()  # the first time it looks which workers live
    other = Database(database.folder)
    before = time.monotonic()
    with other.transaction():
        done: list[object] = []
        done.append(leases.claim())
    assert done == [None]
    assert time.monotonic() - before < 30
