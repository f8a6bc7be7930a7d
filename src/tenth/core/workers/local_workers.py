"""Workers on this machine: processes that each do one task after the other, and may be killed at any moment."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, cast

from tenth.core.errors import InputError
from tenth.core.threads import WAIT_POLICY_VARIABLE, set_wait_policy
from tenth.core.workers.attempts import Outcome, R, Reply, T, Workers, attempt, internal_error
from tenth.core.workers.pool import Begun, Lost, Pool
from tenth.core.workers.processes import reason_of, start_connected, stop_processes

WATCH_SECONDS = 1.0  # between two looks whether a worker died whose own processes keep its pipe open


def run_locally(make_runner: Callable[[], Callable[[T], R]], tasks: Iterable[T], wanted: Workers) -> Iterator[Outcome[T, R]]:
    """As `run_tasks`, by processes on this machine."""
    return Pool[T, R](_Machine(make_runner, wanted), iter(tasks)).run()


class _Process:
    """A worker. place: which of the machine's GPUs are its own."""

    def __init__(self, make_runner: Callable[[], Any], wanted: Workers, place: int) -> None:
        self.place = place
        environment = worker_environment(wanted.threads) | gpu_environment(wanted.gpus, place)
        self.process, self.connection = start_connected("tenth.core.workers.local_workers:work", environment)
        self.give(make_runner)

    @property
    def name(self) -> str:
        return f"worker process {self.process.pid}"

    def give(self, task: Any) -> None:
        with suppress(OSError):  # it has died, which is noticed when it is listened to
            self.connection.send(task)

    def hear(self) -> Begun | Reply[Any] | InputError | Lost:
        try:
            return cast("Begun | Reply[Any] | InputError", self.connection.recv())
        except (EOFError, OSError):
            self.stop()
            return Lost(reason_of(self.process.returncode))

    def stop(self) -> None:
        stop_processes([self.process])
        self.connection.close()


class _Machine:
    """This machine."""

    def __init__(self, make_runner: Callable[[], Any], wanted: Workers) -> None:
        self.make_runner, self.wanted = make_runner, wanted
        self._running: list[_Process] = []

    def room(self) -> int:
        return self.wanted.workers

    def start(self) -> _Process:
        self._running = [worker for worker in self._running if worker.process.poll() is None]
        place = min(set(range(self.wanted.workers)) - {worker.place for worker in self._running})
        self._running.append(_Process(self.make_runner, self.wanted, place))
        return self._running[-1]

    def wait(self, workers: Sequence[_Process]) -> Sequence[_Process]:
        heard = wait([worker.connection for worker in workers], WATCH_SECONDS)
        return [worker for worker in workers if worker.connection in heard or worker.process.poll() is not None]

    def stop(self, workers: Sequence[_Process]) -> None:
        stop_processes(worker.process for worker in workers)  # all at once
        for worker in workers:
            worker.connection.close()


def worker_environment(threads: int) -> dict[str, str]:
    """How a worker's threads are counted and wait, and that it shows no progress bar: the command has one for all.

    The libraries read it when they are imported.
    """
    set_wait_policy()
    own = {"OMP_NUM_THREADS": str(threads), "TQDM_DISABLE": "1"}
    return own | {WAIT_POLICY_VARIABLE: os.environ[WAIT_POLICY_VARIABLE]}


def gpu_environment(gpus: float, place: int) -> dict[str, str]:
    """Which of the machine's GPUs a worker sees: those of its place, which it may share with others."""
    if not gpus:
        return {}
    first, last = int(place * gpus), max(int(place * gpus) + 1, int((place + 1) * gpus))
    known = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    devices = known.split(",") if known else [str(device) for device in range(last)]
    return {"CUDA_VISIBLE_DEVICES": ",".join(devices[first:last])}


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
    connection.send(Begun())
    while True:
        reply = attempt(runner, connection.recv())
        try:
            connection.send(reply)
        except (AttributeError, TypeError, ValueError) as problem:  # a result that cannot be sent
            connection.send(Reply(error=internal_error(problem)))
