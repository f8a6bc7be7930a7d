"""Workers on this machine: processes that each do one task after the other, and may be killed at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from types import FrameType
from typing import Any, Generic

from tenth.core.errors import InputError
from tenth.core.threads import set_wait_policy
from tenth.core.workers.attempts import Attempts, Outcome, R, Reply, T, Workers, announce_loss, attempt, internal_error
from tenth.core.workers.processes import end_with_parent, start_process, stop_processes

WATCH_SECONDS = 1.0  # between two looks whether a worker died whose own processes keep its pipe open
MAX_FALSE_STARTS = 5  # workers in a row that die before one has begun
READY = "ready"


def run_locally(make_runner: Callable[[], Callable[[T], R]], tasks: Iterable[T], wanted: Workers) -> Iterator[Outcome[T, R]]:
    """As `run_tasks`, by processes on this machine."""
    pool: _Pool[T, R] = _Pool(make_runner, iter(tasks), wanted)
    try:
        yield from pool.run()
    finally:
        pool.stop()


@dataclass
class _Worker(Generic[T, R]):
    """A process and what it does. place: which of the machine's GPUs are its own."""

    place: int
    process: subprocess.Popen[bytes]
    connection: Connection
    work: Attempts[T, R] | None = None
    ready: bool = False

    @property
    def name(self) -> str:
        return f"worker process {self.process.pid}"

    def give(self, message: Any) -> None:
        """Send it something; if it has died, that is noticed when it is listened to."""
        with suppress(OSError):
            self.connection.send(message)


class _Pool(Generic[T, R]):
    """Workers that are started when there is something to do."""

    def __init__(self, make_runner: Callable[[], Callable[[T], R]], tasks: Iterator[T], wanted: Workers) -> None:
        self.make_runner, self.tasks, self.wanted = make_runner, tasks, wanted
        self.again: deque[Attempts[T, R]] = deque()
        self.workers: list[_Worker[T, R]] = []
        self.false_starts = 0

    def run(self) -> Iterator[Outcome[T, R]]:
        while True:
            # Each task goes to a worker that waits for one, or else to a new worker.
            while idle := self._idle_places():
                work = self._next_work()
                if work is None:
                    break
                self._assign(work, idle[0])
            busy = [worker for worker in self.workers if worker.work is not None]
            if not busy:
                return
            # Whoever has something to say, and whoever cannot say anything any more.
            heard = wait([worker.connection for worker in busy], WATCH_SECONDS)
            for worker in busy:
                if worker.connection in heard or worker.process.poll() is not None:
                    outcome = self._hear(worker)
                    if outcome is not None:
                        yield outcome

    def stop(self) -> None:
        stop_processes(worker.process for worker in self.workers)
        for worker in self.workers:
            worker.connection.close()
        self.workers.clear()

    def _idle_places(self) -> list[int]:
        """Workers that wait come before places without one."""
        idle = [worker.place for worker in self.workers if worker.work is None]
        return idle + sorted(set(range(self.wanted.workers)) - {worker.place for worker in self.workers})

    def _next_work(self) -> Attempts[T, R] | None:
        if self.again:
            return self.again.popleft()
        for task in self.tasks:
            return Attempts(task)
        return None

    def _assign(self, work: Attempts[T, R], place: int) -> None:
        worker = next((worker for worker in self.workers if worker.place == place), None)
        if worker is None:
            worker = self._start(place)
        worker.work = work
        if worker.ready:
            worker.give(work.task)

    def _start(self, place: int) -> _Worker[T, R]:
        ours, theirs = Pipe()
        with theirs:
            process = start_process(
                "tenth.core.workers.local_workers",
                [str(theirs.fileno())],
                environment=environment_of(place, self.wanted),
                descriptors=[theirs.fileno()],
            )
        worker: _Worker[T, R] = _Worker(place, process, ours)
        self.workers.append(worker)
        worker.give(self.make_runner)
        return worker

    def _hear(self, worker: _Worker[T, R]) -> Outcome[T, R] | None:
        """Take what a worker says. Raises InputError if it cannot begin."""
        assert worker.work is not None
        try:
            said = worker.connection.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        if isinstance(said, InputError):
            raise said
        if said == READY:
            worker.ready, self.false_starts = True, 0
            worker.give(worker.work.task)
            return None
        work, worker.work = worker.work, None
        return self._after(work, work.after(said, worker.name))

    def _bury(self, worker: _Worker[T, R]) -> Outcome[T, R] | None:
        """Forget a worker that died. One that had not begun does not count against its task."""
        stop_processes([worker.process])
        worker.connection.close()
        self.workers.remove(worker)
        work, reason = worker.work, reason_of(worker.process.returncode)
        assert work is not None
        announce_loss(reason, worker.name)
        if worker.ready:
            return self._after(work, work.after_loss(reason, worker.name))
        self.false_starts += 1
        if self.false_starts == MAX_FALSE_STARTS:
            found = f"{MAX_FALSE_STARTS} workers in a row died before they could begin; of the last one: {reason}"
            raise InputError(found, "the memory of a model for each is needed", "Use fewer workers, and look at stderr")
        self.again.append(work)
        return None

    def _after(self, work: Attempts[T, R], outcome: Outcome[T, R] | None) -> Outcome[T, R] | None:
        if outcome is None:
            self.again.append(work)
        return outcome


def environment_of(place: int, wanted: Workers) -> dict[str, str]:
    """A worker's environment: it is read when the libraries are imported that compute."""
    set_wait_policy()
    environment = dict(os.environ) | {"OMP_NUM_THREADS": str(wanted.threads)}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)  # what is imported here is there
    if wanted.gpus:
        first, last = int(place * wanted.gpus), max(int(place * wanted.gpus) + 1, int((place + 1) * wanted.gpus))
        known = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        devices = known.split(",") if known else [str(device) for device in range(last)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[first:last])
    return environment


def reason_of(status: int) -> str:
    """Why a process ended, from its exit status."""
    if status == -signal.SIGKILL:
        return "it was killed (SIGKILL), as the system does when memory runs out"
    return f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"


def work(connection: Connection) -> None:
    """Do the tasks that come, until none come."""
    try:
        runner = connection.recv()()
    except InputError as problem:
        connection.send(problem)
        return
    except Exception as problem:  # noqa: BLE001 - whatever it is, no other worker fares better
        traceback.print_exc()
        connection.send(internal_error(problem))
        return
    connection.send(READY)
    while True:
        reply = attempt(runner, connection.recv())
        try:
            connection.send(reply)
        except (AttributeError, TypeError, ValueError) as problem:  # a result that cannot be sent
            connection.send(Reply(error=internal_error(problem)))


def _end(_: int, __: FrameType | None) -> None:
    """SIGTERM ends the process as an exception: what is written aside is removed."""
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """A worker, whose pipe is the descriptor of its first argument."""
    signal.signal(signal.SIGTERM, _end)
    end_with_parent()
    os.set_inheritable(int(sys.argv[1]), False)
    with Connection(int(sys.argv[1])) as connection, suppress(EOFError, BrokenPipeError):  # nobody listens any more
        work(connection)


if __name__ == "__main__":
    main()
