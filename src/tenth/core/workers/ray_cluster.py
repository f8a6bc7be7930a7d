"""Workers on the nodes of a Ray cluster, driven from a process of its own."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any

from tenth.core.errors import InputError
from tenth.core.wording import pluralize
from tenth.core.workers.attempts import Outcome, R, Reply, T, Workers, attempt, internal_error, process_name
from tenth.core.workers.local_workers import worker_environment
from tenth.core.workers.pool import Begun, Lost, Pool
from tenth.core.workers.ray_driver import LOCAL, Driver, brief, connect, errors_sent, lost, time_limit

WAIT_SECONDS, NODES_SECONDS = 1.0, 5.0  # until a wait without news ends; between two looks at which nodes there are
OURS = "TENTH_"  # how the variables begin that say where models, people and keys are: on all nodes the same places


def run_on_ray(make_runner: Callable[[], Callable[[T], R]], tasks: Iterable[T], wanted: Workers) -> Iterator[Outcome[T, R]]:
    """As `run_tasks`, by actors on all nodes of a Ray cluster. Raises InputError if Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError("Ray is not installed", "it is needed to use several machines", "Run `pip install 'tenth[cluster]'`")
    return _run_driver(make_runner, iter(tasks), wanted)


def _run_driver(make_runner: Callable[[], Any], tasks: Iterator[T], wanted: Workers) -> Iterator[Outcome[T, Any]]:
    """Start the driver, give it tasks when it asks for them, and pass on what it says."""
    driver, given, ended, exhausted = Driver(wanted.ray, "tenth.core.workers.ray_cluster:drive"), 0, 0, False
    try:
        driver.send((make_runner, wanted))
        while not (exhausted and given == ended):  # how it leaves the cluster matters no more
            kind, content = driver.receive()
            if kind == "next":
                task = [*islice(tasks, 1)]
                given, exhausted = given + len(task), not task
                driver.send(task)
            elif kind == "outcome":
                ended += 1
                yield content
    finally:
        driver.stop()


def drive(connection: Connection) -> None:
    """The driver: connect to the cluster, and have the tasks done that come when they are asked for."""

    def tasks() -> Iterator[Any]:
        while True:
            connection.send(("next", None))
            task = connection.recv()
            if not task:
                return
            yield task[0]

    make_runner, wanted = connection.recv()
    with errors_sent(connection):
        cluster = _Cluster(make_runner, wanted)
        connection.send(("connected", None))
        for outcome in Pool[Any, Any](cluster, tasks()).run():
            connection.send(("outcome", outcome))


class Runner:
    """What an actor is on its node."""

    def begin(self, version: str, make_runner: Callable[[], Any]) -> Begun | InputError:
        """Make what does tasks, for a driver of this version."""
        here = metadata.version("tenth")
        if here != version:
            found = f"tenth {here} is on {socket.gethostname()}, and tenth {version} on the machine of the command"
            return InputError(found, "the same version is needed on all", "Install it, or use an image that holds it")
        made = attempt(lambda _: make_runner(), None)
        self._run = made.result
        return made.error or Begun(process_name())

    def do(self, task: Any) -> Reply[Any]:
        assert self._run is not None
        return attempt(self._run, task)


class _Actor:
    """An actor as the driver has it. reply: what it is to answer."""

    def __init__(self, handle: Any, make_runner: Callable[[], Any]) -> None:
        self.handle, self.name = handle, "an actor"
        self.reply = handle.begin.remote(metadata.version("tenth"), make_runner)

    def give(self, task: Any) -> None:
        self.reply = self.handle.do.remote(task)

    def hear(self) -> Begun | Reply[Any] | InputError | Lost:
        import ray

        try:
            with time_limit():
                said: Begun | Reply[Any] | InputError = ray.get(self.reply)
        except ray.exceptions.RayTaskError as problem:  # a result that cannot be sent
            return Reply(error=internal_error(problem.cause))
        except ray.exceptions.RayError as problem:
            return Lost(brief(problem))
        if isinstance(said, Begun):
            self.name = said.name
        return said

    def stop(self) -> None:
        import ray

        ray.kill(self.handle)


class _Cluster:
    """A Ray cluster, whose nodes come and go."""

    def __init__(self, make_runner: Callable[[], Any], wanted: Workers) -> None:
        self.make_runner, self.wanted = make_runner, wanted
        connect(wanted.ray)
        self._room, self._counted_at = 0, -NODES_SECONDS
        if not self.room() or (wanted.ray == LOCAL and not self._room):
            found = f"no node of the Ray cluster has {pluralize(wanted.threads, 'CPU')} and {wanted.gpus:g} GPUs"
            raise InputError(found, "a worker needs them", "Add such a node, or ask for less")

    def room(self) -> int:
        """For how many workers there is room: so many as are wanted, since nodes may come. Raises InputError without a node."""
        import ray

        if time.monotonic() - self._counted_at >= NODES_SECONDS:
            with time_limit():
                nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
            if not nodes:
                raise lost("none of its nodes is there any more")
            self._room = sum(room_of(node["Resources"], self.wanted) for node in nodes)
            self._counted_at = time.monotonic()
        return self.wanted.workers or self._room

    def start(self) -> _Actor:
        import ray

        places = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
        actor = ray.remote(Runner).options(
            num_cpus=self.wanted.threads,
            num_gpus=self.wanted.gpus,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": worker_environment(self.wanted.threads) | places},
        )
        with time_limit():
            return _Actor(actor.remote(), self.make_runner)

    def wait(self, workers: Sequence[_Actor]) -> Sequence[_Actor]:
        import ray

        by_reply = {worker.reply: worker for worker in workers}
        with time_limit():
            ready, _ = ray.wait(list(by_reply), timeout=WAIT_SECONDS)
        return [by_reply[reply] for reply in ready]

    def stop(self, workers: Sequence[_Actor]) -> None:
        import ray

        with time_limit():
            for worker in workers:
                worker.stop()
            ray.shutdown()


def room_of(resources: Mapping[str, float], wanted: Workers) -> int:
    """How many workers a node has room for."""
    room = resources.get("CPU", 0.0) // wanted.threads
    return int(min(room, resources.get("GPU", 0.0) // wanted.gpus) if wanted.gpus else room)
