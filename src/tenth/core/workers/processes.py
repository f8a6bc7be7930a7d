"""Processes that work for this one: they end when it does, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

STOP_SECONDS = 10.0  # within which a process ends that is told to


def start_process(
    module: str, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None, descriptors: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a module as a process, which is to call `end_with_parent`.

    Its stdin is a pipe that says nothing, and ends with this process; what it prints goes to stderr: stdout is for results.
    Ctrl-C on a terminal does not reach it, but this process, which stops it. descriptors: open files that it inherits.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=2,  # a descriptor
        env=None if environment is None else dict(environment),
        pass_fds=descriptors,
        process_group=0,
    )


def stop_processes(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Tell processes to end, and kill those that do not."""
    running = list(processes)
    try:
        for process in running:
            process.terminate()
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
