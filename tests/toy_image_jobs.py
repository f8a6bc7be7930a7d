"""Jobs of images without a model: an executor that draws flat colours as the request says, and a worker for one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tenth.core.errors import DataError
from tenth.server.queue.job import Job, JobResult, JobStopped
from tenth.server.queue.leases import Leases
from tenth.server.storage.database import Database
from toy_executors import flat_color

SLOW, FAILING, BROKEN = "slow", "failing", "broken"  # words of a prompt that make it so
STEP_SECONDS, SLOW_STEP_SECONDS = 0.0, 0.1


def draw(job: Job, reporter: object) -> JobResult:
    """The images of a request, in flat colours; a prompt may say that it is slow, fails, or has a fault."""
    request = job.payload["request"]
    prompt = request["prompts"][0]
    if FAILING in prompt:
        raise DataError("no face in 3 photos", "one that shows a face is needed", "Add photos")
    if BROKEN in prompt:
        raise RuntimeError("a fault")
    payload = {
        **{"num_images": request["num_images"], "seed": request["seed"], "prompt": prompt},
        **{"steps": request["sampling"]["steps"] or 1, "seconds": SLOW_STEP_SECONDS if SLOW in prompt else STEP_SECONDS},
    }
    return flat_color(replace(job, payload=payload), reporter)  # type: ignore[arg-type]


@dataclass
class ThreadReporter:
    """A job's reporter in this process."""

    leases: Leases
    job: Job
    folder: Path

    def progress(self, done: int, total: int) -> None:
        self.leases.progress(self.job, done, total)

    def preview(self, png: bytes) -> None:
        (self.folder / "preview.png").write_bytes(png)


def work_off(database: Database) -> int:
    """Work on all jobs that wait; how many those were."""
    leases, count = Leases(database, "thread"), 0
    while (job := leases.claim()) is not None:
        count += 1
        folder = database.folder / "jobs" / job.id
        folder.mkdir(parents=True)
        try:
            leases.finish(job, draw(job, ThreadReporter(leases, job, folder)))
        except JobStopped:
            continue
        except DataError as problem:
            error = {"found": problem.found, "needed": problem.needed, "action": problem.action}
            leases.fail(job, error, retry=False)
        except RuntimeError:
            error = {"found": "a fault", "needed": "none", "action": "Report it", "code": "internal"}
            leases.fail(job, error, retry=False)
    return count


@contextmanager
def working(database: Database) -> Iterator[None]:
    """A worker in a thread of this process until the block ends."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.02):
            work_off(database)
        database.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
