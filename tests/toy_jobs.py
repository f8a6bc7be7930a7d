"""Jobs of the queue, done without a worker's process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from tenth.core.files.writing import write_png
from tenth.server.queue.job import Job, JobResult, NewPicture
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from toy_executors import color_of


def submit(queue: JobQueue, seed: int = 0, owner: str = "", person: str = "anna", **more: Any) -> Job:
    job, _ = queue.submit(owner=owner, kind="flat", payload={"seed": seed, "prompt": "a hat"}, person=person, **more)
    return job


def result(folder: Path, *seeds: int) -> JobResult:
    pictures = []
    for seed in seeds:
        write_png(folder / f"{seed}.png", Image.new("RGB", (16, 8), color_of(seed)))
        pictures.append(NewPicture(folder / f"{seed}.png", seed, {"prompt": "a hat"}, {"identity": 0.5}))
    return JobResult(pictures)


def done_job(queue: JobQueue, leases: Leases, folder: Path, *seeds: int, owner: str = "", person: str = "anna") -> Job:
    """A job of the first seed, whose pictures are of all of them."""
    submit(queue, seeds[0], owner, person)
    job = leases.claim()
    assert job is not None
    return leases.finish(job, result(folder, *seeds))
