"""Jobs of images without a model: an executor that draws flat colors as a request says, and workers within a test's process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tenth.core.errors import DataError
from tenth.server.queue.job import Job, JobResult, Reporter
from tenth.server.queue.worker import Worker
from toy_executors import flat_color

SLOW, FAILING, BROKEN = "slow", "failing", "broken"  # words of a prompt that make it so
SLOW_SECONDS = 0.1  # of a step


def draw(job: Job, reporter: Reporter) -> JobResult:
    """The images of a request, in flat colors. A prompt may say that it is slow, fails, or has a fault."""
    request = job.payload["request"]
    prompt = request["prompts"][0]
    if FAILING in prompt:
        raise DataError("no face in 3 photos", "one that shows a face is needed", "Add photos")
    if BROKEN in prompt:
        raise RuntimeError("a fault")
    payload = {
        "num_images": request["num_images"],
        "seed": request["seed"],
        "prompt": prompt,
        "steps": request["sampling"]["steps"] or 1,
        "seconds": SLOW_SECONDS if SLOW in prompt else 0.0,
    }
    return flat_color(replace(job, payload=payload), reporter)


def work_off(data: Path) -> int:
    """Do all jobs that wait, here and now; how many those were."""
    worker, count = Worker(data, draw), 0
    while (job := worker.leases.claim()) is not None:
        worker.work(job)
        count += 1
    return count


@contextmanager
def working(data: Path) -> Iterator[None]:
    """A worker in a thread of this process until the block ends."""
    ended, failed = threading.Event(), list[Exception]()

    def work() -> None:
        while not ended.wait(0.05):
            try:
                work_off(data)
            except Exception as problem:  # noqa: BLE001 - said at the end: whoever waits for a job would wait for ever
                failed.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failed:
        raise failed[0]
