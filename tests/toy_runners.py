"""Runners of tasks, for workers in other processes: what each makes is called there, and gives what does a task."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenth.core.errors import InputError, PhotoError


def squares() -> Callable[[int], int]:
    return lambda task: task * task


def process_ids(seconds: float = 0.0) -> Callable[[int], int]:
    def run(_: int) -> int:
        time.sleep(seconds)
        return os.getpid()

    return run


def environment(*names: str) -> Callable[[str], str | None]:
    """Of the time before anything that computes was imported."""
    known = {name: os.environ.get(name) for name in names} | {"torch": str("torch" in sys.modules)}
    return lambda name: known[name]


def logged(folder: Path, seconds: float = 0.0) -> Callable[[int], int]:
    """Each leaves a file that is named by the process and the task, when it begins."""

    def run(task: int) -> int:
        (folder / f"{os.getpid()}-{task}").touch()
        time.sleep(seconds)
        return task

    return run


def deadly(folder: Path, times: int) -> Callable[[int], int]:
    """Task 0 kills its worker so often."""

    def run(task: int) -> int:
        if task == 0 and len(list(folder.iterdir())) < times:
            (folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    return run


def failing(folder: Path, times: int) -> Callable[[int], int]:
    """Task 0 raises what is nobody's input so often, task 1 an error of the input each time."""

    def run(task: int) -> int:
        if task == 1:
            raise PhotoError("truncated", "half a photo", "a whole one is needed", "Take it again")
        if task == 0 and len(list(folder.iterdir())) < times:
            (folder / str(len(list(folder.iterdir())))).touch()
            raise RuntimeError("out of colors")
        return task

    return run


def unsendable() -> Callable[[int], Any]:
    return lambda task: threading.Lock() if task == 0 else task


def impossible() -> Callable[[int], int]:
    raise InputError("no model", "one is needed", "Download it")


def stillborn() -> Callable[[int], int]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def broken() -> Callable[[int], int]:
    raise RuntimeError("no such color")
