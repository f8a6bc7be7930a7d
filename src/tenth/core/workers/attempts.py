"""What became of a task, which may be begun more than once."""

from __future__ import annotations

import os
import re
import socket
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tenth.core.errors import InputError
from tenth.core.wording import pluralize

T = TypeVar("T")
R = TypeVar("R")
MAX_LOSSES = 3  # workers that a task may take with it
MAX_FAILURES = 2  # exceptions that a task may raise
MAX_FOUND_CHARS = 500
RAY_ADDRESS = re.compile(r"auto|local|[\w.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


@dataclass(frozen=True)
class Outcome(Generic[T, R]):
    """What became of a task: a result, or else an error. attempts: how often it was begun. worker: who ended it."""

    task: T
    result: R | None
    error: InputError | None
    attempts: int
    worker: str


@dataclass(frozen=True)
class Workers:
    """How many workers there are, and what each has. ray: the cluster's address; gpus: also a fraction of one."""

    workers: int = 0
    ray: str = ""
    threads: int = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.workers < 0 or self.threads < 1 or self.gpus < 0:
            found = f"{self.workers} workers, {self.threads} threads, {self.gpus} gpus"
            raise InputError(found, "at least 0 workers, 1 thread and 0 gpus are needed", "Correct them")
        if self.ray and not RAY_ADDRESS.fullmatch(self.ray):
            raise InputError(
                f"{self.ray!r} is not the address of a Ray cluster", "auto, local or HOST:PORT is needed", "Correct it"
            )


def process_name() -> str:
    """This process, as a user can find it."""
    return f"process {os.getpid()} on {socket.gethostname()}"


@dataclass(frozen=True)
class Reply(Generic[R]):
    """What a runner made of a task. may_retry: the error is not the input's."""

    result: R | None = None
    error: InputError | None = None
    may_retry: bool = False


def attempt(runner: Callable[[T], R], task: T) -> Reply[R]:
    """Do a task. An exception that is not the input's leaves its traceback on stderr."""
    try:
        return Reply(result=runner(task))
    except InputError as problem:
        return Reply(error=problem)
    except Exception as problem:  # noqa: BLE001 - whatever a runner raises is the task's outcome
        traceback.print_exc()
        return Reply(error=internal_error(problem), may_retry=True)


def internal_error(problem: BaseException) -> InputError:
    """An exception in three parts: the last line of its traceback, and where it was raised."""
    found = f"{type(problem).__name__}: {problem}"[:MAX_FOUND_CHARS]
    if frames := traceback.extract_tb(problem.__traceback__):
        found += f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return InputError(found, "a task that runs to its end is needed", "Look at the traceback on stderr, and report it")


class Attempts(Generic[T, R]):
    """How often a task was begun, and how that went."""

    def __init__(self, task: T) -> None:
        self.task = task
        self._losses = self._failures = 0

    def after(self, reply: Reply[R], worker: str) -> Outcome[T, R] | None:
        """The task's outcome after a reply; None: it is to be tried again."""
        if reply.error is not None:
            self._failures += 1
            if reply.may_retry and self._failures < MAX_FAILURES:
                return None
        attempts = self._losses + self._failures + (reply.error is None)
        return Outcome(self.task, reply.result, reply.error, attempts, worker)

    def after_loss(self, reason: str, worker: str) -> Outcome[T, R] | None:
        """The task's outcome after its worker died; None: it is to be tried again."""
        self._losses += 1
        if self._losses < MAX_LOSSES:
            return None
        found = f"{pluralize(MAX_LOSSES, 'worker')} died of this task; of the last one: {reason}"
        error = InputError(found, "a worker that lives until the task is done is needed", "Give each more memory, or use fewer")
        return Outcome(self.task, None, error, self._losses + self._failures, worker)
