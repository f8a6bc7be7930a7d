"""Processes that work for this one: they end when it does, however that ends.

    python -m tenth.core.workers.processes MODULE:FUNCTION DESCRIPTOR

calls the function with a connection to the process that started it.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from types import FrameType

STOP_SECONDS = 10.0  # within which a process ends that is told to


def start_process(
    module: str, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a module as a process, which is to call `end_with_parent`.

    Its stdin is a pipe that says nothing, and ends with this process; what it prints goes to stderr: stdout is for results.
    Ctrl-C on a terminal does not reach it, but this process, which stops it. environment: besides this process's own.
    descriptors: open files that it inherits.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=2,  # a descriptor
        env=os.environ | dict(environment or {}),
        pass_fds=descriptors,
        process_group=0,
    )


def start_connected(function: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a process that calls MODULE:FUNCTION with the other end of the connection. It can import what this one can."""
    ours, theirs = Pipe()
    with theirs:
        paths = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        arguments = [function, str(theirs.fileno())]
        process = start_process(
            "tenth.core.workers.processes", arguments, environment=paths | dict(environment), descriptors=[theirs.fileno()]
        )
    return process, ours


def stop_processes(processes: Iterable[subprocess.Popen[bytes]], number: signal.Signals = signal.SIGTERM) -> None:
    """Tell processes to end, by a signal, and kill those that do not."""
    running = list(processes)
    try:
        for process in running:
            process.send_signal(number)
        deadline = time.monotonic() + STOP_SECONDS
        for process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in running:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()


def reason_of(status: int) -> str:
    """Why a process ended, from its exit status."""
    if status == -signal.SIGKILL:
        return "it was killed (SIGKILL), as the system does when memory runs out"
    return f"it was ended by {signal.Signals(-status).name}" if status < 0 else f"it ended with status {status}"


def end_with_parent() -> None:
    """Stop this process when the other end of its standard input is gone: the process that started it has died."""

    def watch() -> None:
        with suppress(OSError):
            while os.read(0, 1024):  # not from `sys.stdin`, whose lock Python needs when it ends
                pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(STOP_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _end(number: int, _: FrameType | None) -> None:
    """A signal ends the process as an exception: what is written aside is removed."""
    sys.exit(128 + number)


def main() -> None:
    """Call the function of the first argument with a connection that is the descriptor of the second."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    end_with_parent()
    module, _, function = sys.argv[1].partition(":")
    os.set_inheritable(int(sys.argv[2]), False)  # else a process of this one's would keep it open
    try:
        with Connection(int(sys.argv[2])) as connection, suppress(EOFError, BrokenPipeError):  # nobody listens any more
            getattr(importlib.import_module(module), function)(connection)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # it ends anyway


if __name__ == "__main__":
    main()
