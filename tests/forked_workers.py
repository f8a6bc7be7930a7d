"""Workers that are forks of the process that runs the tests: they have imported what takes seconds.

Workers from the start are those of tests/core/workers/test_local_workers.py.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

import pytest

from tenth.core.workers import local_workers

SECONDS = 300  # after which a child that is waited for is said to hang


class Forked:
    """A child, as `subprocess.Popen` has one."""

    stdin = None

    def __init__(self, pid: int) -> None:
        self.pid, self.returncode = pid, None

    def poll(self, options: int = os.WNOHANG) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """As `subprocess.Popen.wait`."""
        end = time.monotonic() + (SECONDS if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), end)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork_connected(function: str, environment: Mapping[str, str]) -> tuple[Any, Connection]:
    """In the place of `start_connected`."""
    ours, theirs = Pipe()
    module, _, name = function.partition(":")
    pid = os.fork()
    if pid:
        theirs.close()
        return Forked(pid), ours
    code = 1
    try:
        ours.close()
        os.environ.update(environment)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with suppress(EOFError, BrokenPipeError):
            getattr(importlib.import_module(module), name)(theirs)
        code = 0
    except BaseException:  # noqa: BLE001 - the test says what was raised
        traceback.print_exc()
    finally:
        os._exit(code)


@contextmanager
def forked_workers() -> Iterator[None]:
    """A block whose local workers are forks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_workers, "start_connected", fork_connected)
        yield
