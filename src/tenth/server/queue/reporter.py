"""How the executor of a worker says how far its job is, and how the worker keeps the job meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.writing import PRIVATE_FILE_MODE, make_private_folder, write_bytes
from tenth.server.queue.job import Job, JobStopped
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import PREVIEW_FILE

WRITE_SECONDS = 0.25  # at most one write in so many seconds; whether the job was cancelled is read at every step


class LeaseReporter:
    """A `Reporter` that renews the job's lease."""

    def __init__(self, leases: Leases, job: Job, lease_seconds: float) -> None:
        self.leases, self.job, self.lease_seconds = leases, job, lease_seconds
        self._written = -WRITE_SECONDS

    @property
    def data(self) -> Path:
        return self.leases.database.folder

    @cached_property
    def folder(self) -> Path:
        job_folder = make_private_folder(self.leases.database.job_folder(self.job.id))
        return make_private_folder(job_folder / "work")

    def progress(self, done: int, total: int) -> None:
        self.leases.require(self.job)
        if done >= total or time.monotonic() >= self._written + WRITE_SECONDS:
            self.leases.progress(self.job, done, total, self.lease_seconds)
            self._written = time.monotonic()

    def preview(self, png: bytes) -> None:
        self.leases.require(self.job)
        write_bytes(self.folder.parent / PREVIEW_FILE, png, PRIVATE_FILE_MODE)


@contextmanager
def heartbeat(leases: Leases, job: Job, lease_seconds: float) -> Iterator[None]:
    """Renew the job's lease from a thread while the block runs, however long its steps take."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(lease_seconds / 3):
            try:
                leases.renew(job, lease_seconds)
            except JobStopped:
                break
            except DataError:  # a full disk, or somebody who writes for long: the next beat may succeed
                continue
        leases.database.close()  # this thread's connection

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
