"""Workers on the nodes of a Ray cluster.

Ray is driven from a process of its own: its libraries end the process that they are in when the cluster's head is lost.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from tenth.core.workers.processes import reason_of, start_connected, stop_processes

WAIT_SECONDS, NODES_SECONDS = 1.0, 5.0  # until a wait without news ends; between two looks at which nodes there are
CONNECT_SECONDS = 60.0
SILENT_SECONDS = 300.0  # that one call of Ray's may take; longer than it looks for a lost head
MAX_REASON_CHARS = 300
LOCAL = "local"  # the address of a cluster that is started for the command
# Nothing is reported to Ray's makers; of the warnings, one that is about settings that nobody made.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
NO_LOG = {"RAY_BACKEND_LOG_LEVEL": "fatal"}  # a lost cluster is our error alone
OURS = "TENTH_"  # how the variables begin that say where models, people and keys are: on all nodes the same places


def run_on_ray(make_runner: Callable[[], Callable[[T], R]], tasks: Iterable[T], wanted: Workers) -> Iterator[Outcome[T, R]]:
    """As `run_tasks`, by actors on all nodes of a Ray cluster. Raises InputError if Ray is not installed."""
    if find_spec("ray") is None:
        raise InputError("Ray is not installed", "it is needed to use several machines", "Run `pip install 'tenth[cluster]'`")
    return _run_driver(make_runner, iter(tasks), wanted)


def _run_driver(make_runner: Callable[[], Any], tasks: Iterator[T], wanted: Workers) -> Iterator[Outcome[T, Any]]:
    """Start the driver, give it tasks when it asks for them, and pass on what it says."""
    driver, connected, given, ended, exhausted = _Driver(wanted.ray), False, 0, 0, False
    try:
        driver.send((make_runner, wanted))
        while not (exhausted and given == ended):  # how it leaves the cluster matters no more
            try:
                kind, content = driver.receive()
            except EOFError as problem:
                raise _lost(str(problem)) if connected else _no_cluster(wanted.ray, _too_late(problem)) from problem
            connected = connected or kind == "connected"
            if kind == "next":
                task = [*islice(tasks, 1)]
                given, exhausted = given + len(task), not task
                driver.send(task)
            elif kind == "outcome":
                ended += 1
                yield content
            elif kind == "error":
                raise content
    finally:
        driver.stop()


class _Driver:
    """The process that drives Ray."""

    def __init__(self, address: str) -> None:
        environment = QUIET if address == LOCAL else QUIET | NO_LOG  # processes of a cluster that it starts would tell of it
        self.process, self.connection = start_connected("tenth.core.workers.ray_cluster:drive", environment)

    def send(self, message: Any) -> None:
        with suppress(OSError):  # it has ended, which is noticed when it is listened to
            self.connection.send(message)

    def receive(self) -> Any:
        """What it says next. Raises EOFError, which says why, if it has ended, as it does when the cluster's head is lost."""
        try:
            return self.connection.recv()
        except (EOFError, OSError) as problem:
            raise EOFError(reason_of(self.process.wait())) from problem

    def stop(self) -> None:
        stop_processes([self.process], signal.SIGINT)  # at a SIGTERM Ray prints where it was
        self.connection.close()


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
    try:
        cluster = _Cluster(make_runner, wanted)
        connection.send(("connected", None))
        for outcome in Pool[Any, Any](cluster, tasks()).run():
            connection.send(("outcome", outcome))
    except InputError as problem:
        connection.send(("error", problem))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as problem:  # noqa: BLE001 - whatever it is, the user is told
        connection.send(("error", internal_error(problem)))


@contextmanager
def _time_limit(seconds: float = SILENT_SECONDS) -> Iterator[None]:
    """End this process, with status 1, if the block takes longer: Ray waits without a limit for a node that was held up.

    It then holds Python's lock, so that no other thread of Python's runs; faulthandler's needs none.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)  # for the traceback, which is of Ray
    try:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nowhere)
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        os.close(nowhere)


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
            with _time_limit():
                said: Begun | Reply[Any] | InputError = ray.get(self.reply)
        except ray.exceptions.RayTaskError as problem:  # a result that cannot be sent
            return Reply(error=internal_error(problem.cause))
        except ray.exceptions.RayError as problem:
            return Lost(_brief(problem))
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
        with _time_limit(CONNECT_SECONDS):
            connect(wanted.ray)
        self._room, self._counted_at = 0, -NODES_SECONDS
        if not self.room() or (wanted.ray == LOCAL and not self._room):
            found = f"no node of the Ray cluster has {pluralize(wanted.threads, 'CPU')} and {wanted.gpus:g} GPUs"
            raise InputError(found, "a worker needs them", "Add such a node, or ask for less")

    def room(self) -> int:
        """For how many workers there is room: so many as are wanted, since nodes may come. Raises InputError without a node."""
        import ray

        if time.monotonic() - self._counted_at >= NODES_SECONDS:
            with _time_limit():
                nodes: list[dict[str, Any]] = [node for node in ray.nodes() if node["Alive"]]
            if not nodes:
                raise _lost("none of its nodes is there any more")
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
        with _time_limit():
            return _Actor(actor.remote(), self.make_runner)

    def wait(self, workers: Sequence[_Actor]) -> Sequence[_Actor]:
        import ray

        by_reply = {worker.reply: worker for worker in workers}
        with _time_limit():
            ready, _ = ray.wait(list(by_reply), timeout=WAIT_SECONDS)
        return [by_reply[reply] for reply in ready]

    def stop(self, workers: Sequence[_Actor]) -> None:
        import ray

        with _time_limit():
            for worker in workers:
                worker.stop()
            ray.shutdown()


def connect(address: str) -> None:
    """Become a driver of the cluster; "local": of a new one. Raises InputError if there is none."""
    import ray

    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        with _silent_stderr():
            ray.init(address=address, logging_level=logging.ERROR, include_dashboard=False)
    except Exception as problem:  # Ray raises that itself, such as for a node that is late
        raise _no_cluster(address, _brief(problem)) from problem


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """What a library says in C++ of a cluster that does not answer is not printed: our error says it."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _lost(reason: str) -> InputError:
    action = "Start the cluster again, and give the same command: it goes on where it was"
    return InputError(
        f"the connection to the Ray cluster is lost ({reason})", "a cluster is needed whose head lives until the end", action
    )


def _too_late(problem: EOFError) -> str:
    """Why the driver ended before it was connected: status 1 is that of the time limit."""
    return f"within {CONNECT_SECONDS:.0f} seconds" if str(problem) == reason_of(1) else str(problem)


def _no_cluster(address: str, reason: str) -> InputError:
    if address == LOCAL:
        action = "Run it again when the machine has less to do, or use --workers without --ray"
        return InputError(f"no Ray cluster starts on this machine ({reason})", "one is needed for --ray local", action)
    action = "Start one with `ray start --head`, join it with `ray start --address HOST:PORT`, or use --ray local"
    return InputError(f"no Ray cluster answers at {address} ({reason})", "this machine needs to be a node of one", action)


def _brief(problem: Exception) -> str:
    """What Ray says on one line, without its tables of identifiers, whose lines begin with a tab."""
    lines = [line.strip() for line in str(problem).splitlines() if not line.startswith("\t")]
    return " ".join(line for line in lines if line)[:MAX_REASON_CHARS]


def room_of(resources: Mapping[str, float], wanted: Workers) -> int:
    """How many workers a node has room for."""
    room = resources.get("CPU", 0.0) // wanted.threads
    return int(min(room, resources.get("GPU", 0.0) // wanted.gpus) if wanted.gpus else room)
