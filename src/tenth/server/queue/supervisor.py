"""Starts workers, restarts those that die, and keeps the data folder in order.

python -m tenth.server.queue.supervisor DATA --executor MODULE:FUNCTION --workers N
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import threading
import time
import traceback
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tenth.core.workers.processes import start_process, stop_processes
from tenth.server.queue.leases import LEASE_SECONDS
from tenth.server.storage.database import Database
from tenth.server.storage.retention import clean

WATCH_SECONDS = 0.1
MAX_DELAY = 30.0  # seconds before a worker is started again that cannot begin
MAX_DOUBLINGS = 5  # of a second, until it is as long
CLEAN_SECONDS = 3600.0


@dataclass(frozen=True)
class WorkerConfig:
    """workers: how many processes. retention_days: after which pictures are removed unless they are kept; None: never."""

    executor: str
    workers: int = 1
    lease_seconds: float = LEASE_SECONDS
    retention_days: float | None = None


@dataclass
class _Place:
    """Of one worker. failures: how often in a row it could not begin. start_at: when the next one is started."""

    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    start_at: float = 0.0

    @property
    def delay(self) -> float:
        """Seconds before the next one is started."""
        return min(MAX_DELAY, 2.0 ** min(self.failures - 1, MAX_DOUBLINGS)) if self.failures else 0.0


class Supervisor:
    """The workers of a data folder, watched from a thread between `start` and `stop`. They end when this process does."""

    def __init__(self, folder: Path, config: WorkerConfig) -> None:
        self.folder, self.config = folder, config
        self._places = [_Place() for _ in range(config.workers)]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._watch, self._clean)]

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Those of the workers that run."""
        processes = [place.process for place in self._places]
        return tuple(process.pid for process in processes if process is not None and process.poll() is None)

    def start(self) -> None:
        """Start the workers. Raises DataError if the data folder cannot be used."""
        Database(self.folder).close()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the workers: what they work on is queued again."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        stop_processes(place.process for place in self._places if place.process is not None)

    def _watch(self) -> None:
        while not self._stopping.is_set():
            for place in self._places:
                if place.process is not None and place.process.poll() is not None:
                    self._bury(place)
                if place.process is None and time.monotonic() >= place.start_at:
                    self._fill(place)
            self._stopping.wait(WATCH_SECONDS)

    def _fill(self, place: _Place) -> None:
        """Start a worker; where the system refuses a process, later again: this thread lives as long as the server."""
        try:
            place.process = self._start_worker()
        except Exception:  # noqa: BLE001 - said in the log
            traceback.print_exc()
            place.failures += 1
            place.start_at = time.monotonic() + place.delay

    def _start_worker(self) -> subprocess.Popen[bytes]:
        arguments = [str(self.folder), "--executor", self.config.executor]
        arguments += ["--lease-seconds", str(self.config.lease_seconds), "--supervised"]
        return start_process("tenth.server.queue.worker", arguments)

    @staticmethod
    def _bury(place: _Place) -> None:
        """Plan the next worker: at once after one that was killed, later and later after one that cannot begin."""
        if place.process is None:
            return
        if place.process.stdin is not None:
            place.process.stdin.close()
        place.failures = place.failures + 1 if place.process.returncode > 0 else 0
        place.process, place.start_at = None, time.monotonic() + place.delay

    def _clean(self) -> None:
        while not self._stopping.is_set():
            try:
                with closing(Database(self.folder)) as database:
                    clean(database, self.config.retention_days)
            except Exception:  # noqa: BLE001 - such as a full disk, or a damaged file: the next time may succeed
                traceback.print_exc()
            self._stopping.wait(CLEAN_SECONDS)


def main() -> None:
    """Run a supervisor until SIGTERM or SIGINT comes."""
    parser = argparse.ArgumentParser(prog="tenth.server.queue.supervisor")
    parser.add_argument("data", type=Path)
    parser.add_argument("--executor", required=True, metavar="MODULE:FUNCTION")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--lease-seconds", type=float, default=LEASE_SECONDS)
    options = parser.parse_args()
    ended = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.close(ended[1]))
    supervisor = Supervisor(options.data, WorkerConfig(options.executor, options.workers, options.lease_seconds))
    supervisor.start()
    os.read(ended[0], 1)
    supervisor.stop()


if __name__ == "__main__":
    main()
