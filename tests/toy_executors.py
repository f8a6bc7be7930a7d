"""Executors of jobs that need no model: pictures of one color, which their seeds decide."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from PIL import Image

from tenth.core.marks.png import write_png
from tenth.server.queue.job import Job, JobResult, NewPicture, Reporter


def color_of(seed: int) -> tuple[int, int, int]:
    return seed % 256, seed // 256 % 256, seed * 37 % 256


def flat_color(job: Job, reporter: Reporter) -> JobResult:
    """`num_images` pictures from `seed` on, in `steps` steps each of `seconds`; those that a stopped worker left are kept."""
    payload: dict[str, Any] = {"num_images": 1, "seed": 0, "steps": 1, "seconds": 0.0} | dict(job.payload)
    pictures, total = [], payload["num_images"] * payload["steps"]
    for number in range(payload["num_images"]):
        seed, path = payload["seed"] + number, reporter.folder / f"{number}.png"
        if not path.exists():
            image = Image.new("RGB", (16, 16), color_of(seed))
            for step in range(payload["steps"]):
                time.sleep(payload["seconds"])
                reporter.progress(number * payload["steps"] + step, total)
            write_png(path, image)
            reporter.preview(path.read_bytes())
        pictures.append(NewPicture(path, seed, {"seed": seed, "prompt": payload.get("prompt", "")}, {"identity": 0.5}))
    reporter.progress(total, total)
    return JobResult(pictures, {"drawn": len(pictures)})


def stub(job: Job, reporter: Reporter) -> JobResult:
    """No picture; a line in the worker's log."""
    with (Path(job.payload["log"]) / f"{os.getpid()}.log").open("a", encoding="ascii") as log:
        print(job.payload["number"], file=log)
    return JobResult(values={"number": job.payload["number"]})


def broken(job: Job, reporter: Reporter) -> JobResult:
    """An error that is nobody's input."""
    raise RuntimeError("out of colors")


def deadly(job: Job, reporter: Reporter) -> JobResult:
    """The worker's process dies of a job that says so."""
    if job.payload.get("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    return JobResult()
