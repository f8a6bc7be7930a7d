"""The queue of jobs as its clients see it, in the database of a data folder: nothing that was accepted is lost."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tenth.core.files.reading import UnreadableError, read_bytes
from tenth.server.queue.job import Job, JobStatus, KeyReused, QueueFull, job_key, to_json
from tenth.server.queue.job_rows import JOB, find_job, from_row, new_id, one_job, order_of, update_job
from tenth.server.storage.blobs import blob_path
from tenth.server.storage.database import Database, change_number, explain_database_errors, insert

MAX_QUEUED, MAX_LISTED = 50, 500
RECENT, USUAL_SECONDS = 20, 10.0  # jobs whose mean duration is the time after which there is room; it, where none is done yet
PREVIEW_FILE, MAX_PREVIEW_BYTES = "preview.png", 32 << 20  # in the job's folder
ACTIVE = "status IN ('queued', 'running')"


class JobQueue:
    """The queue as its clients see it. An owner sees their own jobs alone: to others they do not exist.

    max_queued: how many jobs may wait, of all owners together.
    """

    def __init__(self, database: Database, *, max_queued: int = MAX_QUEUED) -> None:
        self.database, self.max_queued = database, max_queued

    def submit(
        self,
        *,
        owner: str,
        kind: str,
        payload: Mapping[str, Any],
        person: str = "",
        priority: int = 0,
        client_key: str | None = None,
    ) -> tuple[Job, bool]:
        """Add a job; the job, and whether it is new: an equal one that is queued, running or done is that job.

        priority: higher ones first. client_key: a second call with the same one gives the same job, whatever became of it.
        Raises QueueFull, KeyReused if the key stands for another job, DataError if the disk is full.
        """
        key, text = job_key(kind, person, payload), to_json(payload)
        with self.database.transaction() as transaction:
            known = self._known(transaction, owner, key, client_key)
            if known is not None:
                _add_client_key(transaction, owner, client_key, known.id)
                return known, False
            self._check_room(transaction)
            number = change_number(transaction)
            job_id = new_id(number)
            insert(
                transaction,
                "jobs",
                number=number,
                change=number,
                id=job_id,
                owner=owner,
                kind=kind,
                key=key,
                payload=text,
                person=person,
                priority=priority,
                created=time.time(),
            )
            _add_client_key(transaction, owner, client_key, job_id)
            return one_job(transaction, job_id), True

    def require_room(self, owner: str, kind: str, payload: Mapping[str, Any], person: str, client_key: str | None) -> None:
        """Raises what `submit` would, without keeping others from writing: before anything is done for a job."""
        with explain_database_errors(self.database.path):
            if self._known(self.database.connection, owner, job_key(kind, person, payload), client_key) is None:
                self._check_room(self.database.connection)

    def get(self, job_id: str, owner: str) -> Job | None:
        """A job, or None if the owner has none of this id."""
        row = self.database.row(f"{JOB} WHERE id = ? AND owner = ?", (job_id, owner))
        return None if row is None else from_row(row)

    def list(self, owner: str, limit: int = 50, before: str | None = None, status: JobStatus | None = None) -> Sequence[Job]:
        """The newest jobs, newest first. before: the id of the last job of the page before.

        Raises DataError for what is no id.
        """
        terms: dict[str, object] = {"owner = ?": owner}
        if before is not None:
            terms["number < ?"] = order_of(before)
        if status is not None:
            terms["status = ?"] = status
        query = f"{JOB} WHERE {' AND '.join(terms)} ORDER BY number DESC LIMIT ?"
        return [from_row(row) for row in self.database.rows(query, [*terms.values(), max(0, min(limit, MAX_LISTED))])]

    def cancel(self, job_id: str, owner: str) -> Job | None:
        """Cancel a job that is queued or running, whose worker stops at its next step. None if there is no such job."""
        changes = {"status": "cancelled", "finished": time.time(), "worker": None, "lease_until": None, "error": None}
        with self.database.transaction() as transaction:
            job = find_job(transaction, "id = ? AND owner = ?", job_id, owner)
            if job is not None and job.status in ("queued", "running"):
                return update_job(transaction, job.id, **changes)
            return job

    def retry(self, job_id: str, owner: str) -> Job | None:
        """Queue a job that failed or was cancelled again; an equal one that is queued or running is it. None if unknown.

        Raises QueueFull.
        """
        changes = {"status": "queued", "finished": None, "error": None, "attempts": 0, "not_before": 0.0}
        changes |= {"done": 0, "furthest": 0}
        with self.database.transaction() as transaction:
            job = find_job(transaction, "id = ? AND owner = ?", job_id, owner)
            if job is None or job.status not in ("failed", "cancelled"):
                return job
            active = find_job(transaction, f"owner = ? AND key = ? AND {ACTIVE}", owner, job.key)
            if active is not None:
                return active
            self._check_room(transaction)
            transaction.execute("UPDATE webhooks SET attempts = 0, next = 0 WHERE job = ?", (job.id,))  # of its next end
            return update_job(transaction, job.id, **changes)

    def position(self, job: Job) -> int | None:
        """How many jobs are before a queued one; None if it is not queued."""
        before = "status = 'queued' AND (priority, -number) > (it.priority, -it.number)"
        query = f"SELECT (SELECT count(*) FROM jobs WHERE {before}) FROM jobs AS it WHERE id = ? AND status = 'queued'"
        row = self.database.row(query, (job.id,))
        return None if row is None else int(row[0])

    def counts(self) -> dict[str, int]:
        """How many jobs are queued and running, of all owners."""
        query = """SELECT (SELECT count(*) FROM jobs WHERE status = 'queued') AS queued,
            (SELECT count(*) FROM jobs WHERE status = 'running') AS running"""
        (row,) = self.database.rows(query)
        return dict(row)

    def last_change(self) -> int:
        """The counter of changes, which grows with every change of any job."""
        (row,) = self.database.rows("SELECT value FROM counter")
        return int(row[0])

    def changes(self, owner: str | None, after: int, limit: int = MAX_LISTED) -> Sequence[tuple[int, Job]]:
        """Jobs that changed after the counter had a value, as they are now, each with the counter at its last change, in order.

        owner: None for all owners. The next call goes on after the last one's value.
        """
        where, values = ("", (after, limit)) if owner is None else ("AND owner = ?", (after, owner, limit))
        query = f"{JOB} WHERE change > ? {where} ORDER BY change LIMIT ?"
        return [(row["change"], from_row(row)) for row in self.database.rows(query, values)]

    def preview(self, job_id: str, owner: str) -> bytes | None:
        """The last preview of a job that is queued or running, a PNG; None if there is none."""
        job = self.get(job_id, owner)
        if job is None or job.status not in ("queued", "running"):
            return None
        try:
            return read_bytes(self.database.job_folder(job.id) / PREVIEW_FILE, MAX_PREVIEW_BYTES)
        except (OSError, UnreadableError):
            return None

    def _known(self, transaction: sqlite3.Connection, owner: str, key: str, client_key: str | None) -> Job | None:
        """The job that a new one is already."""
        if client_key is not None:
            named = "id = (SELECT job FROM client_keys WHERE owner = ? AND client_key = ?)"
            job = find_job(transaction, named, owner, client_key)
            if job is not None and job.key != key:
                raise KeyReused
            if job is not None:
                return job
        active = find_job(transaction, f"owner = ? AND key = ? AND {ACTIVE}", owner, key)
        if active is not None:
            return active
        query = (
            "owner = ? AND key = ? AND status = 'done' AND num_pictures = (SELECT count(*) FROM pictures WHERE job = jobs.id)"
        )
        done = find_job(transaction, query, owner, key)
        return done if done is not None and self._has_files(transaction, done) else None

    def _has_files(self, transaction: sqlite3.Connection, job: Job) -> bool:
        """Whether the files of a job's pictures are there: somebody may have removed them by hand."""
        rows = transaction.execute("SELECT sha256 FROM pictures WHERE job = ?", (job.id,))
        return all(blob_path(self.database.folder, row["sha256"]).exists() for row in rows)

    def _check_room(self, transaction: sqlite3.Connection) -> None:
        """Raises QueueFull."""
        (queued,) = transaction.execute("SELECT count(*) FROM jobs WHERE status = 'queued'").fetchone()
        if queued >= self.max_queued:
            raise QueueFull(queued, self._retry_after(transaction))

    @staticmethod
    def _retry_after(transaction: sqlite3.Connection) -> int:
        """Seconds in which a job may end: the mean of the last ones."""
        query = """SELECT avg(finished - started) FROM
            (SELECT finished, started FROM jobs WHERE status = 'done' ORDER BY number DESC LIMIT ?)"""
        (mean,) = transaction.execute(query, (RECENT,)).fetchone()
        return max(1, round(USUAL_SECONDS if mean is None else mean))


def _add_client_key(transaction: sqlite3.Connection, owner: str, client_key: str | None, job_id: str) -> None:
    """Let a client's key, if there is one, stand for a job from now on."""
    if client_key is not None:
        transaction.execute("INSERT OR IGNORE INTO client_keys VALUES (?, ?, ?)", (owner, client_key, job_id))
