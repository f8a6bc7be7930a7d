"""A worker's process: what it does with jobs, and what becomes of them when it is stopped or killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import toy_executors
from tenth.core.errors import DataError
from tenth.server import drawing
from tenth.server.queue import worker as worker_module
from tenth.server.queue.job import Job, JobResult, Reporter
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from tenth.server.queue.reporter import LeaseReporter, heartbeat
from tenth.server.queue.worker import WHEN_IDLE, Worker, load_executor
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import Pictures
from toy_jobs import SECONDS, status, submit, submit_long, wait_for, worker_process


def work_one(database: Database, executor: Any) -> Job:
    """What became of the first job, in this process."""
    worker = Worker(database.folder, executor)
    job = worker.leases.claim()
    assert job is not None
    worker.work(job)
    ended = JobQueue(database).get(job.id, job.owner)
    assert ended is not None
    return ended


def test_a_job_is_done_with_its_pictures_values_and_no_folder_left(
    queue: JobQueue, database: Database, pictures: Pictures
) -> None:
    queue.submit(owner="", kind="flat", payload={"seed": 5, "num_images": 3, "steps": 2})
    job = work_one(database, toy_executors.flat_color)
    assert (job.status, job.done, job.total, job.values) == ("done", 6, 6, {"drawn": 3})
    assert [picture.seed for picture in pictures.page("")] == [7, 6, 5]
    assert not database.job_folder(job.id).exists()


def test_the_users_error_is_said_at_once_and_another_after_three_attempts(queue: JobQueue, database: Database) -> None:
    def refused(_: Job, __: Reporter) -> JobResult:
        raise DataError("no photo", "one is needed", "Add one")

    submit(queue, 0)
    job = work_one(database, refused)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error == {"found": "no photo", "needed": "one is needed", "action": "Add one", "code": "input"}
    submit(queue, 1)
    jobs = [work_one(database, toy_executors.broken) for _ in range(3)]
    assert [job.status for job in jobs] == ["queued", "queued", "failed"]
    assert jobs[-1].error is not None
    assert jobs[-1].error["found"] == "RuntimeError: out of colors"
    assert set(jobs[-1].error) == {"found", "needed", "action", "code"}


def test_a_job_waits_until_a_worker_that_lost_it_lets_go_of_its_folder(queue: JobQueue, database: Database) -> None:
    second = Worker(database.folder, toy_executors.flat_color)
    second.leases.worker = "second"
    seen = []

    def lose(job: Job, reporter: Reporter) -> JobResult:
        with database.transaction() as transaction:
            transaction.execute("UPDATE jobs SET lease_until = 0")
        with ThreadPoolExecutor(1) as pool:
            claimed = pool.submit(second.leases.claim).result()
            assert claimed is not None
            pool.submit(second.work, claimed).result()
        seen.append(queue.get(job.id, ""))
        reporter.progress(1, 1)
        return JobResult()

    submit(queue)
    job = work_one(database, lose)
    (waiting,) = seen
    assert waiting is not None
    assert (waiting.status, waiting.attempts, job.status) == ("queued", 1, "queued")
    assert waiting.error is not None
    assert "another run is writing" in waiting.error["found"]
    assert waiting.error["action"] == "Wait: the job goes on by itself then"
    with database.transaction() as transaction:
        transaction.execute("UPDATE jobs SET not_before = 0")
    assert work_one(database, toy_executors.flat_color).status == "done"


def test_a_job_outlasts_a_database_that_others_write_to(
    queue: JobQueue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_module, "DISK_SECONDS", 0.1)
    other = sqlite3.connect(database.path, isolation_level=None, check_same_thread=False)
    free = threading.Timer(0.5, other.rollback)

    def busy(_: Job, reporter: Reporter) -> JobResult:
        reporter_database = Database(reporter.data)
        reporter_database.connection.execute("PRAGMA busy_timeout = 10")
        other.execute("BEGIN IMMEDIATE")
        free.start()
        with reporter_database.transaction():
            return JobResult()

    submit(queue)
    waiting = work_one(database, busy)
    free.join()
    other.close()
    assert (waiting.status, waiting.attempts) == ("queued", 0)
    assert waiting.error is not None
    assert "database is locked" in waiting.error["found"]
    assert waiting.error["action"] == "Wait: the job goes on by itself then"


def test_a_preview_is_seen_while_a_job_runs_and_its_folder_stays_for_the_next_attempt(
    queue: JobQueue, database: Database
) -> None:
    job, seen = submit(queue), []

    def first(_: Job, reporter: Reporter) -> JobResult:
        reporter.preview(b"half a picture")
        (reporter.folder / "kept").touch()
        seen.append((queue.preview(job.id, ""), queue.preview(job.id, "ben")))
        raise RuntimeError

    def second(_: Job, reporter: Reporter) -> JobResult:
        seen.append((reporter.folder / "kept").exists())
        return JobResult()

    assert queue.preview(job.id, "") is None
    assert work_one(database, first).status == "queued"
    assert work_one(database, second).status == "done"
    assert seen == [(b"half a picture", None), True]
    assert queue.preview(job.id, "") is None


def test_a_job_that_is_cancelled_stops_at_its_next_step(queue: JobQueue, database: Database, pictures: Pictures) -> None:
    submit(queue)
    steps = []

    def cancelled(job: Job, reporter: Reporter) -> JobResult:
        for step in range(10):
            steps.append(step)
            reporter.progress(step, 10)
            if step == 3:
                queue.cancel(job.id, "")
        return JobResult()

    job = work_one(database, cancelled)
    assert (job.status, steps) == ("cancelled", [0, 1, 2, 3, 4])
    assert not database.job_folder(job.id).exists()
    assert pictures.count("") == 0


def test_the_heartbeat_keeps_a_job_whose_step_takes_long(queue: JobQueue, database: Database, leases: Leases) -> None:
    submit(queue)
    job = leases.claim(lease_seconds=0.2)
    assert job is not None
    with heartbeat(leases, job, 0.2):
        for _ in range(6):
            time.sleep(0.1)
            leases.require(job)
        query = "SELECT lease_until FROM jobs"
        before = database.rows(query)[0][0]
        wait_for(lambda: database.rows(query)[0][0] > before)


def test_progress_is_written_now_and_then_and_at_the_end(queue: JobQueue, database: Database, leases: Leases) -> None:
    submit(queue)
    job = leases.claim()
    assert job is not None
    reporter, before = LeaseReporter(leases, job, 60), queue.last_change()
    for step in range(1, 501):
        reporter.progress(step, 500)
    ((_, shown),) = queue.changes("", before)
    assert (shown.done, shown.total) == (500, 500)
    assert queue.last_change() - before < 250


def test_an_executor_that_is_none_is_refused(tmp_path: Path) -> None:
    for name in ("", "toy_executors", "toy_executors:none", "no_module:f", ":f"):
        with pytest.raises(Exception, match="the executor"):
            load_executor(name)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "options"), [(signal.SIGTERM, []), (signal.SIGINT, []), (signal.SIGTERM, ["--supervised"])])
def test_a_worker_that_is_stopped_gives_its_job_back_and_ends_in_peace(
    queue: JobQueue, database: Database, number: signal.Signals, options: list[str]
) -> None:
    job = submit_long(queue)
    with worker_process(database.folder, *options) as process:
        wait_for(lambda: queue.get(job.id, "").done > 0)  # type: ignore[union-attr]
        process.send_signal(number)
        assert process.wait(SECONDS) == 0
    found = queue.get(job.id, "")
    assert found is not None
    assert (found.status, found.attempts) == ("queued", 0)
    assert database.job_folder(job.id).exists()


@pytest.mark.slow
def test_the_job_of_a_killed_worker_is_done_by_the_next_from_where_it_was(
    queue: JobQueue, database: Database, pictures: Pictures
) -> None:
    job = submit_long(queue, steps=20)
    with worker_process(database.folder) as process:
        wait_for((database.job_folder(job.id) / "work/0.png").exists)
        process.kill()
    assert status(queue, job) == "running"
    with worker_process(database.folder):
        wait_for(lambda: status(queue, job) == "done")
        wait_for(lambda: not database.job_folder(job.id).exists())
    assert [picture.seed for picture in pictures.page("")] == [2, 1]


@pytest.mark.slow
def test_a_worker_ends_when_its_supervisor_is_gone(queue: JobQueue, database: Database) -> None:
    job = submit_long(queue)
    with worker_process(database.folder, "--supervised") as process:
        wait_for(lambda: status(queue, job) == "running")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SECONDS) == 0
    assert status(queue, job) == "queued"


@pytest.mark.slow
def test_a_worker_that_cannot_begin_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tenth.server.queue.worker", str(tmp_path / "data"), "--executor", "no_module:f"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the executor 'no_module:f' (No module named 'no_module'); MODULE:FUNCTION is needed")


def test_a_worker_that_waits_keeps_its_memory_in_order(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def when_idle() -> None:
        called.append(1)
        worker.stop()

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    worker = Worker(database.folder, toy_executors.flat_color, when_idle=when_idle)
    worker.run()
    assert called == [1]
    assert drawing.drop_forgotten.__name__ == WHEN_IDLE
