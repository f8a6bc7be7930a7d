"""Jobs of the queue, done here or by processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from house_source import ROOT
from tenth.core.marks.png import write_png
from tenth.server.queue.job import Job, JobResult, NewPicture
from tenth.server.queue.leases import Leases
from tenth.server.queue.queue import JobQueue
from toy_executors import color_of

SECONDS = 60  # in which a process has done what is waited for
PYTHONPATH = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])  # of processes that find the toy executors


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


def submit_long(queue: JobQueue, seconds: float = 0.05, steps: int = 400) -> Job:
    """A job for a worker's process: two pictures, in steps that take some seconds."""
    payload = {"seed": 1, "steps": steps, "seconds": seconds, "num_images": 2}
    return queue.submit(owner="", kind="flat", payload=payload)[0]


def status(queue: JobQueue, job: Job) -> str:
    found = queue.get(job.id, job.owner)
    assert found is not None
    return found.status


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


@contextmanager
def worker_process(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of flat colors, killed at the end."""
    command = [
        sys.executable,
        "-m",
        "tenth.server.queue.worker",
        str(folder),
        "--executor",
        "toy_executors:flat_color",
        *options,
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ | {"PYTHONPATH": PYTHONPATH}) as process:
        yield process
        process.kill()
