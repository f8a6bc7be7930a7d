"""A training run as it is seen from outside: progress bar, TensorBoard, and stopping on request."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from tenth.core.errors import DataError
from tenth.core.file_reading import UnreadableError, parse_json, read_lines, reason
from tenth.core.file_writing import naming, write_png, write_text
from tenth.core.types import Pixels, Score
from tenth.training.adapter.validation import _damaged, _row

Seen = Mapping[str, "float | Pixels"]  # what was measured at a checkpoint: numbers and pictures (H, W, 3), by name
FOLDER = "tensorboard"
SMOOTH = 200  # steps over which the bar's loss is averaged
FLUSH_SECONDS = 30  # after which what was measured can be seen from outside


class Curves:
    """A file of events as TensorBoard reads it, which grows while a run lasts.

    torch's own writer names its file after the host. Raises DataError, which names the file, if the disk is full or refuses.
    """

    def __init__(self, folder: Path, seen: int) -> None:
        """What files of earlier runs say beyond `seen` images is taken off the curves."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        now = time.time_ns()
        self.path, self.flushed = folder / f"events.out.tfevents.{now // 10**9:010}.{now % 10**9:09}", time.monotonic()
        with naming(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("xb")
        self.records: Any = RecordWriter(self.file)
        self._add(Event(file_version="brain.Event:2"))
        self._add(Event(step=seen + 1, session_log=SessionLog(status=SessionLog.START)))

    def number(self, name: str, value: float, seen: int) -> None:
        from torch.utils.tensorboard.summary import scalar

        self._summarise(scalar(name, value), seen)

    def picture(self, name: str, value: Pixels, seen: int) -> None:
        from torch.utils.tensorboard.summary import image

        self._summarise(image(name, value, dataformats="HWC"), seen)

    def flush(self) -> None:
        with naming(self.path):
            self.records.flush()
        self.flushed = time.monotonic()

    def close(self) -> None:
        with naming(self.path):
            self.file.close()

    def _summarise(self, summary: Any, seen: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._add(Event(step=seen, summary=summary))
        if time.monotonic() - self.flushed > FLUSH_SECONDS:
            self.flush()

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        with naming(self.path):
            self.records.write(event.SerializeToString())


class Board:
    """Writes curves and pictures to `directory`/tensorboard and shows a bar; silent where it is not shown."""

    def __init__(self, directory: Path, shown: bool) -> None:
        self.directory, self.shown = directory / FOLDER, shown
        self.curves: Curves | None = None
        self.bar: Any = None

    def __enter__(self) -> Board:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.curves is not None:
            with suppress(*[DataError] * (kind is not None)):  # what went wrong before is said, not what it led to
                self.curves.close()

    def begin(self, seen: int, total: int) -> None:
        """Start at `seen` images; what an earlier run drew beyond them is taken off the curves."""
        self.first = self.seen = seen
        self.count, self.loss, self.before = 0, 0.0, time.monotonic()
        if self.shown:
            self.curves = Curves(self.directory, seen)
            self.bar = tqdm(total=total, initial=seen, unit="img", file=sys.stderr, mininterval=1)

    def step(self, seen: int, values: Mapping[str, float]) -> None:
        """Numbers of one step, "loss" among them."""
        self.count += 1
        self.loss += (values["loss"] - self.loss) / min(self.count, SMOOTH)
        now = time.monotonic()
        if self.curves is not None:
            speed = (seen - self.seen) / max(now - self.before, 1e-9)
            for name, value in {**values, "images per second": speed}.items():
                self.curves.number(f"training/{name}", value, seen)
            self.bar.set_postfix(loss=f"{self.loss:.4f}", refresh=False)
            self.bar.update(seen - self.seen)
        self.seen, self.before = seen, now

    def checkpoint(self, seen: int, average: Mapping[str, Tensor], measured: Seen | None) -> None:
        """Statistics of the averaged weights, and what was measured with them."""
        if self.curves is not None:
            for name, value in {**weight_statistics(average), **(measured or {})}.items():
                if isinstance(value, float):
                    self.curves.number(name, value, seen)
                else:
                    self.curves.picture(name, value, seen)
            self.curves.flush()
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


HISTORY = "validation.jsonl"  # a line a checkpoint

STRIP = "samples.png"  # a row a checkpoint, a column a person


def record(directory: Path, seen: int, score: Score, pictures: Sequence[Pixels], **more: float | None) -> bool:
    """Add a line to the history and a row to the strip. Whether this is the best checkpoint so far. more: for the line.

    What a run that was killed wrote beyond this point is replaced.
    """
    history = [line for line in read_history(directory) if line["images"] < seen]
    best = score.value is not None and all(score.value > (before["similarity"] or -1.0) for before in history)
    line = {"images": seen, "similarity": score.value, "low": score.low, "high": score.high, **more, "best": best}
    write_text(directory / HISTORY, "".join(json.dumps(entry) + "\n" for entry in [*history, line]))
    folder = directory / "samples"
    newest = strip(pictures)
    write_png(folder / f"{seen:09}.png", Image.fromarray(newest))
    earlier = [path for path in sorted(folder.glob("*.png")) if path.stem.isdecimal() and int(path.stem) < seen]
    rows = [row for path in earlier if (row := _row(path)) is not None and row.shape == newest.shape]
    write_png(directory / STRIP, Image.fromarray(np.concatenate([*rows, newest])))
    return best


def strip(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures side by side."""
    return np.concatenate(list(pictures), 1)


def read_history(directory: Path) -> list[dict[str, float]]:
    """The lines of validation.jsonl, none where there is no such file. Raises CheckpointError if it is damaged."""
    path = directory / HISTORY
    try:
        lines = [parse_json(line) for line in read_lines(path)]
    except FileNotFoundError:
        return []
    except (OSError, UnreadableError) as problem:
        raise _damaged(path, reason(problem)) from problem
    for number, line in enumerate(lines, 1):
        known = [line.get("images"), line.get("similarity") or 0.0] if isinstance(line, dict) else [None]
        if not all(type(value) in (int, float) for value in known):
            raise _damaged(path, f"says nothing in line {number}")
    return lines
