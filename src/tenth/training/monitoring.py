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
from tenth.core.files.reading import UnreadableError, parse_json, read_lines, reason
from tenth.core.files.writing import explain_os_errors, write_png, write_text
from tenth.core.types import Pixels, Score
from tenth.training.adapter.validation import _damaged_history, _read_strip_row

CheckpointMetrics = Mapping[str, "float | Pixels"]  # what was measured at a checkpoint: numbers and pictures (H, W, 3), by name
TENSORBOARD_FOLDER = "tensorboard"
LOSS_WINDOW = 200  # steps over which the bar's loss is averaged
FLUSH_SECONDS = 30  # after which what was measured can be seen from outside


class EventWriter:
    """A file of events as TensorBoard reads it, which grows while a run lasts.

    torch's own writer names its file after the host. Raises DataError, which names the file, if the disk is full or refuses.
    """

    def __init__(self, folder: Path, images_seen: int) -> None:
        """What files of earlier runs say beyond `images_seen` images is taken off the curves."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        now = time.time_ns()
        self.path, self.last_flush = folder / f"events.out.tfevents.{now // 10**9:010}.{now % 10**9:09}", time.monotonic()
        with explain_os_errors(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("xb")
        self.writer: Any = RecordWriter(self.file)
        self._add_event(Event(file_version="brain.Event:2"))
        self._add_event(Event(step=images_seen + 1, session_log=SessionLog(status=SessionLog.START)))

    def add_scalar(self, name: str, value: float, images_seen: int) -> None:
        from torch.utils.tensorboard.summary import scalar

        self._add_summary(scalar(name, value), images_seen)

    def add_image(self, name: str, value: Pixels, images_seen: int) -> None:
        from torch.utils.tensorboard.summary import image

        self._add_summary(image(name, value, dataformats="HWC"), images_seen)

    def flush(self) -> None:
        with explain_os_errors(self.path):
            self.writer.flush()
        self.last_flush = time.monotonic()

    def close(self) -> None:
        with explain_os_errors(self.path):
            self.file.close()

    def _add_summary(self, summary: Any, images_seen: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._add_event(Event(step=images_seen, summary=summary))
        if time.monotonic() - self.last_flush > FLUSH_SECONDS:
            self.flush()

    def _add_event(self, event: Any) -> None:
        event.wall_time = time.time()
        with explain_os_errors(self.path):
            self.writer.write(event.SerializeToString())


class TrainingLogger:
    """Writes curves and pictures to `directory`/tensorboard and shows a bar; silent where it is not shown."""

    def __init__(self, directory: Path, enabled: bool) -> None:
        self.directory, self.enabled = directory / TENSORBOARD_FOLDER, enabled
        self.event_writer: EventWriter | None = None
        self.progress_bar: Any = None

    def __enter__(self) -> TrainingLogger:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.progress_bar is not None:
            self.progress_bar.close()
        if self.event_writer is not None:
            with suppress(*[DataError] * (kind is not None)):  # what went wrong before is said, not what it led to
                self.event_writer.close()

    def start(self, images_seen: int, total_images: int) -> None:
        """Start at `images_seen` images; what an earlier run drew beyond them is taken off the curves."""
        self.first_image = self.images_seen = images_seen
        self.num_steps, self.smoothed_loss, self.last_time = 0, 0.0, time.monotonic()
        if self.enabled:
            self.event_writer = EventWriter(self.directory, images_seen)
            self.progress_bar = tqdm(total=total_images, initial=images_seen, unit="img", file=sys.stderr, mininterval=1)

    def log_step(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Numbers of one step, "loss" among them."""
        self.num_steps += 1
        self.smoothed_loss += (values["loss"] - self.smoothed_loss) / min(self.num_steps, LOSS_WINDOW)
        now = time.monotonic()
        if self.event_writer is not None:
            speed = (images_seen - self.images_seen) / max(now - self.last_time, 1e-9)
            for name, value in {**values, "images per second": speed}.items():
                self.event_writer.add_scalar(f"training/{name}", value, images_seen)
            self.progress_bar.set_postfix(loss=f"{self.smoothed_loss:.4f}", refresh=False)
            self.progress_bar.update(images_seen - self.images_seen)
        self.images_seen, self.last_time = images_seen, now

    def log_checkpoint(self, images_seen: int, ema: Mapping[str, Tensor], metrics: CheckpointMetrics | None) -> None:
        """Statistics of the averaged weights, and what was measured with them."""
        if self.event_writer is not None:
            for name, value in {**weight_statistics(ema), **(metrics or {})}.items():
                if isinstance(value, float):
                    self.event_writer.add_scalar(name, value, images_seen)
                else:
                    self.event_writer.add_image(name, value, images_seen)
            self.event_writer.flush()
        self.last_time = time.monotonic()


def weight_statistics(ema: Mapping[str, Tensor]) -> dict[str, float]:
    """Norm, mean and standard deviation of each module's weights."""
    statistics: dict[str, float] = {}
    for module in dict.fromkeys(name.partition(".")[0] for name in ema):
        tensors = [value.double() for name, value in ema.items() if name.partition(".")[0] == module]
        count = sum(part.numel() for part in tensors)
        mean = sum(float(part.sum()) for part in tensors) / count
        sum_of_squares = sum(float(part.square().sum()) for part in tensors)
        std = max(sum_of_squares / count - mean**2, 0.0) ** 0.5
        statistics |= {f"weights/{module} {key}": value for key, value in _named_statistics(sum_of_squares**0.5, mean, std)}
    return statistics


def _named_statistics(norm: float, mean: float, std: float) -> Iterator[tuple[str, float]]:
    yield from (("norm", norm), ("mean", mean), ("deviation", std))


class StopRequest:
    """Whether somebody wants the run to stop."""

    requested = False


@contextmanager
def graceful_stop() -> Iterator[StopRequest]:
    """Ctrl-C and SIGTERM ask to stop after the step that is under way; asked a second time they stop at once."""
    stop = StopRequest()

    def on_signal(_: int, __: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return
    previous_handlers = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


HISTORY_FILE = "validation.jsonl"  # a line a checkpoint

STRIP_FILE = "samples.png"  # a row a checkpoint, a column a person


def append_history(directory: Path, images_seen: int, score: Score, images: Sequence[Pixels], **extra: float | None) -> bool:
    """Add a line to the history and a row to the strip. Whether this is the best checkpoint so far. extra: for the line.

    What a run that was killed wrote beyond this point is replaced.
    """
    history = [line for line in read_history(directory) if line["images"] < images_seen]
    best = score.value is not None and all(score.value > (before["similarity"] or -1.0) for before in history)
    line = {"images": images_seen, "similarity": score.value, "low": score.low, "high": score.high, **extra, "best": best}
    write_text(directory / HISTORY_FILE, "".join(json.dumps(entry) + "\n" for entry in [*history, line]))
    folder = directory / "samples"
    newest = image_strip(images)
    write_png(folder / f"{images_seen:09}.png", Image.fromarray(newest))
    earlier = [path for path in sorted(folder.glob("*.png")) if path.stem.isdecimal() and int(path.stem) < images_seen]
    rows = [row for path in earlier if (row := _read_strip_row(path)) is not None and row.shape == newest.shape]
    write_png(directory / STRIP_FILE, Image.fromarray(np.concatenate([*rows, newest])))
    return best


def image_strip(images: Sequence[Pixels]) -> Pixels:
    """Pictures side by side."""
    return np.concatenate(list(images), 1)


def read_history(directory: Path) -> list[dict[str, float]]:
    """The lines of validation.jsonl, none where there is no such file. Raises CheckpointError if it is damaged."""
    path = directory / HISTORY_FILE
    try:
        lines = [parse_json(line) for line in read_lines(path)]
    except FileNotFoundError:
        return []
    except (OSError, UnreadableError) as problem:
        raise _damaged_history(path, reason(problem)) from problem
    for number, line in enumerate(lines, 1):
        required = [line.get("images"), line.get("similarity") or 0.0] if isinstance(line, dict) else [None]
        if not all(type(value) in (int, float) for value in required):
            raise _damaged_history(path, f"says nothing in line {number}")
    return lines
