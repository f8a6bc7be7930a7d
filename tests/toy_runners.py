"""Runners of tasks, for workers in other processes: what each makes is called there, and gives what does a task."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from ctypes import PyDLL
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tenth.core.errors import InputError, PhotoError
from tenth.core.workers.tasks import run_tasks


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


def odd(folder: Path) -> Callable[[str], Any]:
    """What each task says: a variable of the environment, an error, a result that cannot be sent, the worker's death."""

    def run(task: str) -> Any:
        if task == "photo":
            raise PhotoError("truncated", "half a photo", "a whole one is needed", "Take it again")
        if task == "once" and not (folder / task).exists():
            (folder / task).touch()
            raise RuntimeError("out of colors")
        if task == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        return threading.Lock() if task == "lock" else os.environ.get(task, "torch" in sys.modules)

    return run


def impossible() -> Callable[[int], int]:
    raise InputError("no model", "one is needed", "Download it")


def held_up(connection: Connection) -> None:
    """In the place of both drivers: Ray waits for ever, holds Python's lock, and has said in C++ what it waits for."""
    import ray

    from tenth.core.workers import ray_driver

    def init(**_: Any) -> None:
        os.write(2, b"Failed to connect to GCS\n")
        PyDLL(None).sleep(600)

    ray_driver.CONNECT_SECONDS, ray.init = 0.5, init
    connection.recv()
    ray_driver.connect("local")


def stillborn() -> Callable[[int], int]:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def broken() -> Callable[[int], int]:
    raise RuntimeError("no such color")


def work_for_ever(folder: str, workers: int, ray: str = "") -> None:
    """Of a process that is going to be stopped: tasks without end."""
    for _ in run_tasks(partial(logged, Path(folder), 0.05), count(), workers=workers, ray=ray):
        pass


def memory_of_many(tasks: int, workers: int, ray: str = "") -> None:
    """Prints the resident bytes of this process and its children after a hundredth of the tasks, and at the end."""
    import psutil

    def resident() -> int:
        own = psutil.Process()
        return own.memory_info().rss + sum(child.memory_info().rss for child in own.children())

    sizes = []
    for number, outcome in enumerate(run_tasks(squares, range(tasks), workers=workers, ray=ray)):
        assert outcome.error is None
        if number in (tasks // 100, tasks - 1):
            sizes.append(resident())
    print(*sizes)
