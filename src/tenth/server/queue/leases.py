"""The queue as its workers see it: nothing is said done that is not, and every job is worked on by one worker at a time.

A job that runs has a lease, which its worker renews. When the lease runs out, or the worker's process is gone, another may
claim the job. A result is registered, with its pictures, in the transaction that makes the job done, and only by who has the
lease.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache

from tenth.core.errors import DataError
from tenth.server.queue.job import MAX_ATTEMPTS, Job, JobCancelled, JobResult, LeaseLost, to_json
from tenth.server.queue.job_rows import update_job
from tenth.server.storage.blobs import Blobs, job_holder
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import Pictures, read_picture

LEASE_SECONDS, CHECK_SECONDS = 60.0, 1.0  # how long a lease lasts; between two looks whether workers live
START_TOLERANCE = 2.0  # seconds by which a clock that is set may move the start of a process
NO_LEASE = {"worker": None, "lease_until": None}
STOPPED = {
    "found": f"the worker's process ended {MAX_ATTEMPTS} times in the middle of this job",
    "needed": "a process that is not ended from outside, and enough memory",
    "action": "Ask for fewer or smaller pictures, or look into the log",
    "code": "internal",
}


class Leases:
    """Claims and ends jobs, for the worker of a name as `worker_name` gives it."""

    def __init__(self, database: Database, worker: str) -> None:
        self.database, self.worker = database, worker
        self.pictures = Pictures(database, Blobs(database))
        self._checked = -CHECK_SECONDS

    def claim(self, lease_seconds: float = LEASE_SECONDS) -> Job | None:
        """The first job that waits, which is this worker's from now on; None if there is none. Raises DataError."""
        now = time.time()
        waiting = "status = 'queued' AND not_before <= ?"
        alive = time.monotonic() < self._checked + CHECK_SECONDS
        lost = "status = 'running' AND lease_until < ?"
        query = f"SELECT 1 WHERE EXISTS (SELECT 1 FROM jobs WHERE {waiting}) OR EXISTS (SELECT 1 FROM jobs WHERE {lost})"
        if alive and self.database.row(query, (now, now)) is None:
            return None  # without keeping others from writing

        with self.database.transaction(durable=False) as transaction:  # if it is lost, the job waits still
            self._take_back(transaction, now, also_gone=not alive)
            query = f"SELECT id, attempts, started FROM jobs WHERE {waiting} ORDER BY priority DESC, number LIMIT 1"
            row = transaction.execute(query, (now,)).fetchone()
            if row is None:
                return None
            return update_job(
                transaction,
                row["id"],
                status="running",
                attempts=row["attempts"] + 1,
                worker=self.worker,
                lease_until=now + lease_seconds,
                started=row["started"] or now,
                error=None,
            )

    def renew(self, job: Job, lease_seconds: float = LEASE_SECONDS) -> None:
        """Keep a job for longer. Raises JobStopped if it is this worker's no more."""
        with self.database.transaction(durable=False) as transaction:
            self._require(transaction, job)
            transaction.execute("UPDATE jobs SET lease_until = ? WHERE id = ?", (time.time() + lease_seconds, job.id))

    def require(self, job: Job) -> None:
        """Raises JobStopped unless a job is this worker's, without keeping others from writing."""
        self._require(self.database.connection, job)

    def progress(self, job: Job, done: int, total: int, lease_seconds: float = LEASE_SECONDS) -> None:
        """As `renew`, and say how far the job is. What gets further than all attempts before has all its attempts again."""
        with self.database.transaction(durable=False) as transaction:
            furthest, attempts = self._require(transaction, job)
            changes = {"done": done, "total": total, "lease_until": time.time() + lease_seconds}
            further = {"furthest": done, "attempts": min(attempts, 1)} if done > furthest else {}
            update_job(transaction, job.id, **changes, **further)

    def finish(self, job: Job, result: JobResult) -> Job:
        """Make a job done and register its pictures, all or nothing. Raises JobStopped if it is this worker's no more.

        The photos that were uploaded for it are its no longer, and go unless somebody else's: nothing is made of them again.
        Raises DataError if the disk is full or a picture is no PNG: then the job is this worker's still.
        """
        contents = [read_picture(picture.path) for picture in result.pictures]
        for content in contents:
            self.pictures.blobs.put(content)
        with self.database.transaction() as transaction:
            self._require(transaction, job)
            self.pictures.add(transaction, job, result.pictures, contents)
            self.pictures.blobs.release(transaction, job_holder(job.id))
            changes = {"status": "done", "finished": time.time(), "error": None, "num_pictures": len(contents)}
            done = update_job(transaction, job.id, **changes, **NO_LEASE, result=to_json(result.values))
        with suppress(DataError):  # of a disk that refuses: the job is done, and the next to remove files removes these
            self.pictures.blobs.remove_unused()
        return done

    def fail(self, job: Job, error: Mapping[str, str], *, retry: bool) -> Job:
        """End an attempt; retry: unless it was the last one, the job is queued again. Raises JobStopped as `finish`."""
        with self.database.transaction() as transaction:
            _, attempts = self._require(transaction, job)
            return _end_attempt(transaction, job.id, error, last=not retry or attempts >= MAX_ATTEMPTS)

    def postpone(self, job: Job, error: Mapping[str, str] | None, seconds: float) -> Job:
        """Queue a job again, for reasons that are not its own: it counts no attempt.

        error: why it waits. seconds: how long at least. Raises JobStopped as `finish`.
        """
        with self.database.transaction() as transaction:
            _, attempts = self._require(transaction, job)
            text = None if error is None else to_json(error)
            changes = {"status": "queued", "attempts": max(0, attempts - 1), "not_before": time.time() + seconds}
            return update_job(transaction, job.id, **changes, **NO_LEASE, error=text)

    def _require(self, transaction: sqlite3.Connection, job: Job) -> tuple[int, int]:
        """How far a job got and its attempts, if it is this worker's."""
        query = "SELECT status, worker, furthest, attempts FROM jobs WHERE id = ?"
        row = transaction.execute(query, (job.id,)).fetchone()
        if row is None or row["status"] == "cancelled":
            raise JobCancelled(job.id)
        if row["status"] != "running" or row["worker"] != self.worker:
            raise LeaseLost(job.id)
        return row["furthest"], row["attempts"]

    def _take_back(self, transaction: sqlite3.Connection, now: float, *, also_gone: bool) -> None:
        """Queue jobs again whose leases ran out, or whose workers are gone, or fail them if that was the last attempt."""
        query = "SELECT id, worker, lease_until, attempts FROM jobs WHERE status = 'running'"
        for row in transaction.execute(query).fetchall():
            if row["lease_until"] < now or (also_gone and is_gone(row["worker"])):
                _end_attempt(transaction, row["id"], STOPPED, last=row["attempts"] >= MAX_ATTEMPTS)
        if also_gone:
            self._checked = time.monotonic()


def _end_attempt(transaction: sqlite3.Connection, job_id: str, error: Mapping[str, str], *, last: bool) -> Job:
    if last:
        changes = {"status": "failed", "finished": time.time(), "error": to_json(error)}
        return update_job(transaction, job_id, **changes, **NO_LEASE)
    return update_job(transaction, job_id, status="queued", not_before=0.0, **NO_LEASE)


@cache
def _host() -> str:
    return socket.gethostname().replace(" ", "-")


def worker_name(process_id: int | None = None) -> str:
    """The name of a process on this machine, by default this one: no other process ever has it."""
    import psutil

    process = psutil.Process(os.getpid() if process_id is None else process_id)
    return f"{_host()} {process.pid} {process.create_time():.2f}"


def is_gone(worker: str) -> bool:
    """Whether the process of a name is known to have ended. False for one on another machine, or another kind of name."""
    import psutil

    host, _, rest = worker.partition(" ")
    process_id, _, start = rest.partition(" ")
    if host != _host() or not process_id.isdecimal():
        return False
    try:
        process = psutil.Process(int(process_id))
        return bool(process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(start)) > START_TOLERANCE)
    except psutil.NoSuchProcess:
        return True
