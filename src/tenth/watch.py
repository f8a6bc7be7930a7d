"""A training run as it is seen from outside: progress bar, TensorBoard, and stopping on request."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from tenth.types import Pixels

Seen = Mapping[str, "float | Pixels"]  # what was measured at a checkpoint: numbers and pictures (H, W, 3), by name
FOLDER = "tensorboard"
SMOOTH = 200  # steps over which the bar's loss is averaged


class Board:
    """Writes curves and pictures to `directory`/tensorboard and shows a bar; silent where it is not shown."""

    def __init__(self, directory: Path, shown: bool) -> None:
        self.directory, self.shown = directory / FOLDER, shown
        self.writer: Any = None
        self.bar: Any = None

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for part in (self.bar, self.writer):
            if part is not None:
                part.close()

    def begin(self, seen: int, total: int) -> None:
        """Start at `seen` images; what an earlier run drew beyond them is taken off the curves."""
        self.first = self.seen = seen
        self.count, self.loss, self.before = 0, 0.0, time.monotonic()
        if self.shown:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.directory), purge_step=seen + 1)
            self.bar = tqdm(total=total, initial=seen, unit="img", file=sys.stderr, mininterval=1)

    def step(self, seen: int, values: Mapping[str, float]) -> None:
        """Numbers of one step, "loss" among them."""
        self.count += 1
        self.loss += (values["loss"] - self.loss) / min(self.count, SMOOTH)
        now = time.monotonic()
        if self.shown:
            speed = (seen - self.seen) / max(now - self.before, 1e-9)
            for name, value in {**values, "images per second": speed}.items():
                self.writer.add_scalar(f"training/{name}", value, seen)
            self.bar.set_postfix(loss=f"{self.loss:.4f}", refresh=False)
            self.bar.update(seen - self.seen)
        self.seen, self.before = seen, now

    def checkpoint(self, seen: int, average: Mapping[str, Tensor], measured: Seen | None) -> None:
        """Statistics of the averaged weights, and what was measured with them."""
        for name, value in {**weight_statistics(average), **(measured or {})}.items():
            if isinstance(value, float):
                self.writer.add_scalar(name, value, seen)
            else:
                self.writer.add_image(name, value, seen, dataformats="HWC")
        self.writer.flush()
        self.before = time.monotonic()


def weight_statistics(average: Mapping[str, Tensor]) -> dict[str, float]:
    """Norm, mean and standard deviation of each module's weights."""
    found: dict[str, float] = {}
    for module in dict.fromkeys(name.partition(".")[0] for name in average):
        parts = [value.double() for name, value in average.items() if name.partition(".")[0] == module]
        number = sum(part.numel() for part in parts)
        mean = sum(float(part.sum()) for part in parts) / number
        square = sum(float(part.square().sum()) for part in parts)
        deviation = max(square / number - mean**2, 0.0) ** 0.5
        found |= {f"weights/{module} {key}": value for key, value in _named(square**0.5, mean, deviation)}
    return found


def _named(norm: float, mean: float, deviation: float) -> Iterator[tuple[str, float]]:
    yield from (("norm", norm), ("mean", mean), ("deviation", deviation))


class Stop:
    """Whether somebody wants the run to stop."""

    wanted = False


@contextmanager
def stopping() -> Iterator[Stop]:
    """Ctrl-C and SIGTERM ask to stop after the step that is under way; asked a second time they stop at once."""
    stop = Stop()

    def asked(_: int, __: FrameType | None) -> None:
        if stop.wanted:
            raise KeyboardInterrupt
        stop.wanted = True

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return
    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
