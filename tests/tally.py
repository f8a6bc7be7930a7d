"""An attack counted: bad input after bad input, each answered by a result or by an error of tenth's, soon and in little memory.

`make abuse` runs the same attacks with other seeds and more of them: TENTH_FUZZ_SEED, TENTH_FUZZ_TIMES, and TENTH_FUZZ_TALLY, a
file that gets a line of JSON from each.
"""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TypeVar

from tenth.cli.main import USER_ERRNOS
from tenth.core.errors import TenthError

SEED, TIMES = int(os.environ.get("TENTH_FUZZ_SEED", "0")), int(os.environ.get("TENTH_FUZZ_TIMES", "1"))
SECONDS, MEGABYTES = 5.0, 300  # of the process, for one input; beyond what it held before, for all
WAITS = 12  # times as long for one that only waits
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
T = TypeVar("T")


class TimeoutExceeded(BaseException):
    """Not an Exception: nothing on the way may take it for its own."""


@dataclass
class Tally:
    """tried: inputs, refused: by an error of tenth's, failed: what was neither a result nor such an error, for each a line."""

    name: str
    tried: int = 0
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    megabytes: float = 0.0

    def attempt(self, what: str, call: Callable[[], T]) -> T | None:
        """The result, or None where it was refused."""
        self.tried += 1
        try:
            with time_limit(SECONDS):
                return call()
        except TenthError:
            self.refused += 1
        except TimeoutExceeded:
            self.failed.append(f"{what}: no answer within {SECONDS:.0f} s")
        except Exception as problem:  # noqa: BLE001 - that is what is looked for
            if isinstance(problem, OSError) and problem.errno in USER_ERRNOS:  # one line of the command's, without its doing
                self.refused += 1
            else:
                self.failed.append(f"{what}: {type(problem).__name__}: {problem}"[:300])
        return None

    def check(self, what: str, sound: bool) -> None:
        """What must hold of a result, or of the files after an attempt."""
        if not sound:
            self.failed.append(what)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Hang in the block when it takes longer."""

    def on_alarm(_: int, __: FrameType | None) -> None:
        raise TimeoutExceeded

    # Its own seconds: others may keep the machine busy. Who only waits has none, and gets more of everybody's.
    clocks = ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, WAITS * seconds))
    before = [signal.signal(number, on_alarm) for _, number, _ in clocks]
    for clock, _, most in clocks:
        signal.setitimer(clock, most)
    try:
        yield
    finally:
        for clock, _, _ in clocks:
            signal.setitimer(clock, 0)
        for (_, number, _), handler in zip(clocks, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def tally_inputs(name: str) -> Iterator[Tally]:
    """A tally that fails the test when an input failed, or all together took too much memory."""
    tally, start = Tally(name), time.perf_counter()
    before = peak_megabytes(reset=True)
    yield tally
    tally.megabytes = peak_megabytes() - before
    if path := os.environ.get("TENTH_FUZZ_TALLY"):
        with Path(path).open("a", encoding="utf-8") as file:
            print(json.dumps(vars(tally) | {"seconds": round(time.perf_counter() - start, 1)}), file=file)
    assert tally.tried > 0
    assert not tally.failed, f"{len(tally.failed)} of {tally.tried}:\n" + "\n".join(tally.failed[:20])
    assert tally.megabytes < MEGABYTES


def peak_megabytes(*, reset: bool = False) -> float:
    """The most memory that the process held, in MB; anew: what it holds now, from which the most is counted from here on."""
    if not STATUS.exists():
        return 0.0
    if reset:
        CLEAR.write_text("5", encoding="ascii")
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
    return int(kilobytes) / 1000
