"""Hands tasks to workers that come and go, wherever those are."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from tenth.core.errors import InputError
from tenth.core.workers.attempts import Attempts, Outcome, R, Reply, T

MAX_FALSE_STARTS = 4  # workers in a row that die before they have begun, while there is no other
MAX_DELAY = 30.0  # seconds after such a one before the next is started


@dataclass(frozen=True)
class Begun:
    """A worker has its runner, and takes tasks. name: where it is, if that was not known before."""

    name: str = ""


@dataclass(frozen=True)
class Lost:
    """A worker is no more."""

    reason: str


class Worker(Protocol):
    """A process somewhere. It begins by itself, and then does one task at a time."""

    @property
    def name(self) -> str: ...
    def give(self, task: Any) -> None: ...
    def hear(self) -> Begun | Reply[Any] | InputError | Lost:
        """What it says, once `Workplace.wait` has said that it says something. InputError: no worker can begin."""

    def stop(self) -> None: ...


W = TypeVar("W", bound=Worker)


class Workplace(Protocol[W]):
    """Where workers are."""

    def room(self) -> int:
        """For how many workers there is room now."""

    def start(self) -> W: ...
    def wait(self, workers: Sequence[W]) -> Sequence[W]:
        """Those that say something; none after a second or so without."""

    def stop(self, workers: Sequence[W]) -> None: ...


@dataclass(eq=False)
class _Member(Generic[T, R]):
    worker: Worker
    begun: bool = False
    work: Attempts[T, R] | None = None


class Pool(Generic[T, R]):
    """As many workers as there is room and work for."""

    def __init__(self, workplace: Workplace[Any], tasks: Iterator[T]) -> None:
        self.workplace, self.tasks = workplace, tasks
        self._waiting: deque[Attempts[T, R]] = deque()  # tasks that no worker has
        self._members: list[_Member[T, R]] = []
        self._false_starts, self._start_at = 0, 0.0

    def run(self) -> Iterator[Outcome[T, R]]:
        """What becomes of the tasks. Raises InputError if no worker can begin. The workers end with the iterator."""
        try:
            while self._hand_out():
                by_worker = {id(each.worker): each for each in self._members if each.work is not None or not each.begun}
                for worker in self.workplace.wait([each.worker for each in by_worker.values()]):
                    outcome = self._hear(by_worker[id(worker)])
                    if outcome is not None:
                        yield outcome
        finally:
            self.workplace.stop([each.worker for each in self._members])

    def _hand_out(self) -> bool:
        """Give tasks to workers, and start workers for tasks that wait. False: there is nothing left to do."""
        for member in [each for each in self._members if each.begun and each.work is None]:
            if self._has_waiting(1):
                member.work = self._waiting.popleft()
                member.worker.give(member.work.task)
        # A task that waits is given to whichever worker begins first.
        starting = sum(not each.begun for each in self._members)
        while (
            len(self._members) < self.workplace.room()
            and self._has_waiting(starting + 1)
            and time.monotonic() >= self._start_at
        ):
            self._members.append(_Member(self.workplace.start()))
            starting += 1
        return self._has_waiting(1) or any(each.work is not None for each in self._members)

    def _has_waiting(self, count: int) -> bool:
        """Whether so many tasks wait; they are read if need be."""
        while len(self._waiting) < count:
            try:
                self._waiting.append(Attempts(next(self.tasks)))
            except StopIteration:
                return False
        return True

    def _hear(self, member: _Member[T, R]) -> Outcome[T, R] | None:
        said, name = member.worker.hear(), member.worker.name
        if isinstance(said, InputError):
            raise said
        if isinstance(said, Begun):
            member.begun, self._false_starts = True, 0
            return None
        # A worker that was lost before it began had no task.
        work, member.work = member.work, None
        if isinstance(said, Lost):
            self._bury(member, said)
        if work is None:
            return None
        outcome = work.after_loss(said.reason, name) if isinstance(said, Lost) else work.after(said, name)
        if outcome is None:
            self._waiting.append(work)
        return outcome

    def _bury(self, member: _Member[T, R], loss: Lost) -> None:
        """Forget a worker that is lost. Raises InputError if none begins."""
        self._members.remove(member)
        member.worker.stop()
        print(f"{member.worker.name} was lost: {loss.reason}. What it did is done again.", file=sys.stderr)
        if member.begun:
            return
        self._false_starts += 1
        if self._false_starts >= MAX_FALSE_STARTS and not any(each.begun for each in self._members):
            found = f"{self._false_starts} workers in a row died before they could begin; of the last one: {loss.reason}"
            raise InputError(found, "the memory of a model for each is needed", "Use fewer workers, and look at stderr")
        self._start_at = time.monotonic() + min(MAX_DELAY, 2.0 ** (self._false_starts - 1) - 1)
