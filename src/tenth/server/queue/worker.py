"""A worker: a process that does one job after the other, and may be killed at any moment.

    python -m tenth.server.queue.worker DATA --executor MODULE:FUNCTION

SIGTERM and SIGINT stop it: the job that it has is queued again, and goes on where it was.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import cast

from tenth.core.errors import CheckpointError, InputError, TenthError
from tenth.core.files.claims import exclusive_folder
from tenth.core.workers.processes import end_with_parent
from tenth.server.queue.job import Executor, Job, JobStopped
from tenth.server.queue.leases import LEASE_SECONDS, Leases, worker_name
from tenth.server.queue.reporter import LeaseReporter, heartbeat
from tenth.server.storage.database import Database, database_code, is_busy, is_disk_full

IDLE_SECONDS = 0.1  # between two looks whether a job waits
WHEN_IDLE = "drop_forgotten"  # of the executor's module, if it has one: what was kept in memory of people who were forgotten
DISK_SECONDS = 10.0  # after which a job is tried again that waits for room on the disk, or for a database that is busy
FOLDER_SECONDS = 2.0  # or for a worker that lost the job, and has not noticed yet
GOES_ON = "the job goes on by itself then"
MAX_FOUND_CHARS = 500


class WorkerStopped(BaseException):
    """The worker is to end: not an Exception, so that no executor takes it for its own."""


class Worker:
    """Claims jobs of a data folder and gives them to an executor. when_idle: called again and again while no job waits."""

    def __init__(
        self,
        folder: Path,
        executor: Executor,
        lease_seconds: float = LEASE_SECONDS,
        when_idle: Callable[[], None] = lambda: None,
    ) -> None:
        self.executor, self.lease_seconds, self.when_idle = executor, lease_seconds, when_idle
        self.database = Database(folder)
        self.leases = Leases(self.database, worker_name())
        self._stopping = self._executing = False

    def run(self) -> None:
        """Work until a signal comes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        while not self._stopping:
            try:
                job = self.leases.claim(self.lease_seconds)
            except TenthError as problem:  # a full disk, or somebody who writes for long
                print(problem, file=sys.stderr)
                self._sleep(DISK_SECONDS)
                continue
            if job is None:
                self._sleep(IDLE_SECONDS)
                self.when_idle()
            else:
                self.work(job)

    def stop(self, _: int = 0, __: FrameType | None = None) -> None:
        """End after what is being written; an executor is interrupted."""
        self._stopping = True
        if self._executing:
            raise WorkerStopped

    def work(self, job: Job) -> None:
        """Do a job, and record what became of it."""
        try:
            self._execute(job)
        except JobStopped:
            pass
        except WorkerStopped:
            self._record(lambda: self.leases.postpone(job, None, 0))
        except Exception as problem:  # noqa: BLE001 - whatever an executor raises is said in its job
            error = describe(problem)
            if is_disk_full(problem) or is_busy(problem):
                error["action"] = f"{'Wait' if is_busy(problem) else 'Make room'}: {GOES_ON}"
                self._record(lambda: self.leases.postpone(job, error, DISK_SECONDS))
            else:
                if error["code"] == "internal":
                    traceback.print_exception(problem)
                self._record(lambda: self.leases.fail(job, error, retry=error["code"] == "internal"))
        remove_job_folder(self.database, job.id)

    def _execute(self, job: Job) -> None:
        with ExitStack() as stack:
            stack.enter_context(heartbeat(self.leases, job, self.lease_seconds))
            reporter = LeaseReporter(self.leases, job, self.lease_seconds)
            try:
                stack.enter_context(exclusive_folder(reporter.folder))
            except CheckpointError as problem:  # somebody who had the job before is still at work
                error = describe(problem) | {"action": f"Wait: {GOES_ON}"}
                self._record(lambda: self.leases.postpone(job, error, FOLDER_SECONDS))
                return
            try:
                self._executing = True
                if self._stopping:
                    raise WorkerStopped
                result = self.executor(job, reporter)
            finally:
                self._executing = False
            self.leases.finish(job, result)

    def _record(self, write: Callable[[], object]) -> None:
        """Write to the database, as soon as there is room on its disk."""
        while True:
            try:
                write()
                return
            except JobStopped:
                return
            except TenthError as problem:
                print(problem, file=sys.stderr)
                if self._stopping:
                    return  # the lease runs out
                self._sleep(DISK_SECONDS)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < end:
            time.sleep(IDLE_SECONDS)


def remove_job_folder(database: Database, job_id: str) -> None:
    """Remove the folder of a job that is neither queued nor running."""
    if not database.job_folder(job_id).exists():
        return
    with database.transaction(durable=False) as transaction:  # so that nobody queues it again meanwhile
        query = "SELECT 1 FROM jobs WHERE id = ? AND status IN ('queued', 'running')"
        if transaction.execute(query, (job_id,)).fetchone() is None:
            shutil.rmtree(database.job_folder(job_id), ignore_errors=True)


def describe(problem: Exception) -> dict[str, str]:
    """An error in three parts, and whether it is the input's or internal."""
    if isinstance(problem, InputError) and not database_code(problem):
        return {"found": problem.found, "needed": problem.needed, "action": problem.action, "code": "input"}
    return {
        "found": f"{type(problem).__name__}: {problem}"[:MAX_FOUND_CHARS],
        "needed": "a job that runs to its end",
        "action": "Try again; if it stays so, look into the log and report it",
        "code": "internal",
    }


def load_executor(name: str) -> Executor:
    """The function of `module:function`. Raises InputError if there is none."""
    module, _, function = name.partition(":")
    try:
        return cast("Executor", getattr(importlib.import_module(module), function))
    except (ImportError, AttributeError, ValueError) as problem:
        raise InputError(f"the executor {name!r} ({problem})", "MODULE:FUNCTION is needed", "Correct it") from problem


def main() -> int:
    """Run a worker until it is stopped; 1 if it cannot begin."""
    parser = argparse.ArgumentParser(prog="tenth.server.queue.worker")
    parser.add_argument("data", type=Path)
    parser.add_argument("--executor", required=True, metavar="MODULE:FUNCTION")
    parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS)
    parser.add_argument("--supervised", action="store_true", help="end when the standard input ends")
    options = parser.parse_args()
    try:
        executor = load_executor(options.executor)
        when_idle = getattr(sys.modules[executor.__module__], WHEN_IDLE, lambda: None)
        worker = Worker(options.data, executor, options.lease_seconds, when_idle)
        if options.supervised:
            end_with_parent()
        worker.run()
    except TenthError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
