"""The process that drives Ray, whose libraries end the process that they are in when the cluster's head is lost."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any

from tenth.core.errors import InputError
from tenth.core.workers.attempts import internal_error
from tenth.core.workers.processes import reason_of, start_connected, stop_processes

CONNECT_SECONDS = 60.0
SILENT_SECONDS = 300.0  # that one call of Ray's may take; longer than it looks for a lost head
MAX_REASON_CHARS = 300
LOCAL = "local"  # the address of a cluster that is started for the command
# Nothing is reported to Ray's makers; of the warnings, one that is about settings that nobody made.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
NO_LOG = {"RAY_BACKEND_LOG_LEVEL": "fatal"}  # a lost cluster is our error alone


class Driver:
    """The process that drives Ray. function: "MODULE:NAME" of what it calls with a connection to this process.

    That function is to connect first, and say ("connected", None) then.
    """

    def __init__(self, address: str, function: str) -> None:
        environment = QUIET if address == LOCAL else QUIET | NO_LOG  # processes of a cluster that it starts would tell of it
        self.address, self.connected = address, False
        self.process, self.connection = start_connected(function, environment)

    def send(self, message: Any) -> None:
        with suppress(OSError):  # it has ended, which is noticed when it is listened to
            self.connection.send(message)

    def receive(self) -> tuple[str, Any]:
        """What it says next: a kind, and more. Raises an error that it says, and InputError if it has ended.

        It has ended where no cluster has answered in time, and when the cluster's head is lost.
        """
        while True:
            try:
                kind, content = self.connection.recv()
            except (EOFError, OSError) as problem:
                status = self.process.wait()
                if self.connected:
                    raise lost(reason_of(status)) from problem
                # Status 1 is that of the time limit.
                reason = f"within {CONNECT_SECONDS:.0f} seconds" if status == 1 else reason_of(status)
                raise no_cluster(self.address, reason) from problem
            if kind == "error":
                raise content
            if kind != "connected":
                return kind, content
            self.connected = True

    def stop(self) -> None:
        stop_processes([self.process], signal.SIGINT)  # at a SIGTERM Ray prints where it was
        self.connection.close()


def run_with_ray(address: str, work: Callable[[], None]) -> None:
    """Call `work`, which can be pickled, in a process that is connected to a cluster. Raises what it raises, and InputError."""
    driver = Driver(address, "tenth.core.workers.ray_driver:call")
    try:
        driver.send((address, work))
        driver.receive()
    finally:
        driver.stop()


def call(connection: Connection) -> None:
    """The driver of `run_with_ray`."""
    address, work = connection.recv()
    with errors_sent(connection):
        connect(address)
        connection.send(("connected", None))
        work()
        connection.send(("done", None))


@contextmanager
def errors_sent(connection: Connection) -> Iterator[None]:
    """What the block raises is said, and not raised, unless nobody listens any more."""
    try:
        yield
    except InputError as problem:
        connection.send(("error", problem))
    except (EOFError, BrokenPipeError):
        raise
    except Exception as problem:  # noqa: BLE001 - whatever it is, the user is told
        traceback.print_exc()
        connection.send(("error", internal_error(problem)))


@contextmanager
def time_limit(seconds: float = SILENT_SECONDS) -> Iterator[None]:
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


def connect(address: str) -> None:
    """Become a driver of the cluster; "local": of a new one. Raises InputError if there is none.

    Ends the process, with status 1, if that takes longer than CONNECT_SECONDS.
    """
    import ray

    host, _, port = address.rpartition(":")
    try:
        if port.isdecimal():  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
        with time_limit(CONNECT_SECONDS), _silent_stderr():
            ray.init(address=address, logging_level=logging.ERROR, include_dashboard=False)
    except Exception as problem:  # Ray raises that itself, such as for a node that is late
        raise no_cluster(address, brief(problem)) from problem


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


def lost(reason: str) -> InputError:
    """The error for a cluster that is gone."""
    action = "Start the cluster again, and give the same command: it goes on where it was"
    return InputError(
        f"the connection to the Ray cluster is lost ({reason})", "a cluster is needed whose head lives until the end", action
    )


def no_cluster(address: str, reason: str) -> InputError:
    """The error for a cluster that does not answer, or does not start."""
    if address == LOCAL:
        action = "Run it again when the machine has less to do, or use --workers without --ray"
        return InputError(f"no Ray cluster starts on this machine ({reason})", "one is needed for --ray local", action)
    action = "Start one with `ray start --head`, join it with `ray start --address HOST:PORT`, or use --ray local"
    return InputError(f"no Ray cluster answers at {address} ({reason})", "this machine needs to be a node of one", action)


def brief(problem: Exception) -> str:
    """What Ray says on one line, without its tables of identifiers, whose lines begin with a tab."""
    lines = [line.strip() for line in str(problem).splitlines() if not line.startswith("\t")]
    return " ".join(line for line in lines if line)[:MAX_REASON_CHARS]
