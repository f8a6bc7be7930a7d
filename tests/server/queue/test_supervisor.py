"""Who starts workers, and starts them again."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tenth.core.errors import DataError
from tenth.core.workers.processes import start_process
from tenth.server.queue import supervisor as supervisor_module
from tenth.server.queue.queue import JobQueue
from tenth.server.queue.supervisor import Supervisor, WorkerConfig
from tenth.server.storage.database import DATABASE_FILE, GENERATION_FILE, Database
from tenth.server.storage.pictures import Pictures
from toy_jobs import PYTHONPATH, status, submit_long, wait_for

pytestmark = pytest.mark.slow


@contextmanager
def supervised(folder: Path, config: WorkerConfig) -> Iterator[Supervisor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)
        supervisor = Supervisor(folder, config)
        supervisor.start()
        try:
            yield supervisor
        finally:
            supervisor.stop()


def test_workers_that_die_are_started_again_and_all_end_with_the_supervisor(
    queue: JobQueue, database: Database, pictures: Pictures
) -> None:
    job = submit_long(queue, steps=10)
    with supervised(database.folder, WorkerConfig("toy_executors:flat_color", workers=2)) as supervisor:
        wait_for(lambda: status(queue, job) == "running")
        wait_for(lambda: len(supervisor.process_ids) == 2)
        first = supervisor.process_ids
        for process_id in first:
            os.kill(process_id, signal.SIGKILL)
        wait_for(lambda: status(queue, job) == "done")
        wait_for(lambda: len(supervisor.process_ids) == 2)
        second = supervisor.process_ids
        assert not {*first} & {*second}
    assert supervisor.process_ids == ()
    assert not any(map(psutil.pid_exists, (*first, *second)))
    assert len(pictures.page("")) == 2


def test_a_job_that_runs_when_the_supervisor_stops_is_queued_again(queue: JobQueue, database: Database) -> None:
    job = submit_long(queue)
    with supervised(database.folder, WorkerConfig("toy_executors:flat_color")):
        wait_for(lambda: status(queue, job) == "running")
    found = queue.get(job.id, "")
    assert found is not None
    assert (found.status, found.attempts) == ("queued", 0)


def test_workers_that_cannot_begin_are_not_started_again_and_again(queue: JobQueue, database: Database) -> None:
    job = submit_long(queue)
    started: set[int] = set()
    with supervised(database.folder, WorkerConfig("no_module:f")) as supervisor:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            started |= {*supervisor.process_ids}
            time.sleep(0.02)
        wait_for(lambda: not supervisor.process_ids)
    assert 1 <= len(started) <= 4  # after 0, 1 and 3 seconds
    assert status(queue, job) == "queued"


def test_a_job_that_kills_its_workers_fails_and_the_next_one_is_done(queue: JobQueue, database: Database) -> None:
    bad, _ = queue.submit(owner="", kind="flat", payload={"dies": True}, priority=1)
    good, _ = queue.submit(owner="", kind="flat", payload={})
    with supervised(database.folder, WorkerConfig("toy_executors:deadly")):
        wait_for(lambda: status(queue, good) == "done")
    assert status(queue, bad) == "failed"


def test_the_data_folder_is_kept_in_order(queue: JobQueue, database: Database) -> None:
    (database.job_folder("0-unknown") / "work").mkdir(parents=True)
    with supervised(database.folder, WorkerConfig("toy_executors:flat_color", workers=0, retention_days=1)):
        wait_for(lambda: not database.job_folder("0-unknown").exists())
    assert not database.job_folder("0-unknown").exists()


def test_a_system_that_starts_no_process_for_a_while_is_asked_again(
    queue: JobQueue, database: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def refuse_once(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        return start_process(*arguments)

    monkeypatch.setattr(supervisor_module, "start_process", refuse_once)
    with supervised(database.folder, WorkerConfig("toy_executors:flat_color")) as supervisor:
        wait_for(lambda: len(supervisor.process_ids) == 1)
    assert "Resource temporarily unavailable" in capfd.readouterr().err


def test_a_file_that_cannot_be_read_ends_no_cleaning(
    database: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    generation = database.folder / GENERATION_FILE
    generation.write_bytes(b"a" * 1000)  # more than are read
    (database.job_folder("0-unknown") / "work").mkdir(parents=True)
    monkeypatch.setattr(supervisor_module, "CLEAN_SECONDS", 0.1)
    with supervised(database.folder, WorkerConfig("toy_executors:flat_color", workers=0)):
        said: list[str] = []

        def failed() -> bool:
            said.append(capfd.readouterr().err)
            return "UnreadableError" in "".join(said)

        wait_for(failed)
        assert database.job_folder("0-unknown").exists()
        generation.unlink()
        wait_for(lambda: not database.job_folder("0-unknown").exists())


def test_a_folder_that_cannot_be_used_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / DATABASE_FILE).write_text("no database " * 100)
    with pytest.raises(DataError, match="not a database"):
        Supervisor(tmp_path, WorkerConfig("toy_executors:flat_color")).start()
