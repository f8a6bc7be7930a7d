"""A training run as seen from outside: progress bar, TensorBoard, stopping on request, and a history with images."""

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

from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.decoder_errors import DECODER_ERRORS
from tenth.core.files.reading import UnreadableError, open_regular, parse_json, read_lines, reason
from tenth.core.files.writing import explain_os_errors, write_text
from tenth.core.marks.png import write_png
from tenth.core.types import Pixels, Score

CheckpointMetrics = Mapping[str, "float | Pixels"]  # measured at a checkpoint: numbers and images (H, W, 3), by name
TENSORBOARD_FOLDER = "tensorboard"
LOSS_WINDOW = 200  # steps over which the progress bar's loss is averaged
FLUSH_SECONDS = 30  # between writes to disk
HISTORY_FILE = "validation.jsonl"  # a line per checkpoint
STRIP_FILE = "samples.png"  # a row per checkpoint, a column per person
MAX_ROW_BYTES = 1 << 28


class EventWriter:
    """TensorBoard's event file, not named after the host. Raises DataError, which names it, if it cannot be written."""

    def __init__(self, folder: Path, images_seen: int) -> None:
        """Start a file. Points of earlier files beyond `images_seen` images are removed from the curves."""
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

    def add(self, name: str, value: float | Pixels, images_seen: int) -> None:
        """Add a number or an image (H, W, 3)."""
        from tensorboard.compat.proto.event_pb2 import Event
        from torch.utils.tensorboard.summary import image, scalar

        summary = scalar(name, value) if isinstance(value, float) else image(name, value, dataformats="HWC")
        self._add_event(Event(step=images_seen, summary=summary))
        if time.monotonic() - self.last_flush > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        with explain_os_errors(self.path):
            self.writer.flush()
        self.last_flush = time.monotonic()

    def close(self) -> None:
        with explain_os_errors(self.path):
            self.file.close()

    def _add_event(self, event: Any) -> None:
        event.wall_time = time.time()
        with explain_os_errors(self.path):
            self.writer.write(event.SerializeToString())


class TrainingLogger:
    """Writes curves and images to `directory`/tensorboard and shows a progress bar; does nothing unless enabled."""

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
            ignored = () if kind is None else (DataError,)  # the first error is reported, not one that follows from it
            with suppress(*ignored):
                self.event_writer.close()

    def start(self, images_seen: int, total_images: int) -> None:
        """Start at `images_seen` images; points of an earlier run beyond them are removed from the curves."""
        self.images_seen = images_seen
        self.num_steps, self.smoothed_loss, self.last_time = 0, 0.0, time.monotonic()
        if self.enabled:
            self.event_writer = EventWriter(self.directory, images_seen)
            self.progress_bar = tqdm(total=total_images, initial=images_seen, unit="img", file=sys.stderr, mininterval=1)

    def log_step(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Log the numbers of one step, "loss" among them."""
        self.num_steps += 1
        self.smoothed_loss += (values["loss"] - self.smoothed_loss) / min(self.num_steps, LOSS_WINDOW)
        now = time.monotonic()
        if self.event_writer is not None:
            speed = (images_seen - self.images_seen) / max(now - self.last_time, 1e-9)
            for name, value in {**values, "images per second": speed}.items():
                self.event_writer.add(f"training/{name}", value, images_seen)
            self.progress_bar.set_postfix(loss=f"{self.smoothed_loss:.4f}", refresh=False)
            self.progress_bar.update(images_seen - self.images_seen)
        self.images_seen, self.last_time = images_seen, now

    def log_checkpoint(self, images_seen: int, ema: Mapping[str, Tensor], metrics: CheckpointMetrics | None) -> None:
        """Log statistics of the averaged weights, and a checkpoint's metrics."""
        if self.event_writer is not None:
            for name, value in {**weight_statistics(ema), **(metrics or {})}.items():
                self.event_writer.add(name, value, images_seen)
            self.event_writer.flush()
        self.last_time = time.monotonic()


def weight_statistics(ema: Mapping[str, Tensor]) -> dict[str, float]:
    """Norm, mean and standard deviation of each module's weights, as "weights/MODULE norm" and so on."""
    statistics: dict[str, float] = {}
    for module in dict.fromkeys(name.partition(".")[0] for name in ema):
        tensors = [value.double() for name, value in ema.items() if name.partition(".")[0] == module]
        count = sum(part.numel() for part in tensors)
        mean = sum(float(part.sum()) for part in tensors) / count
        sum_of_squares = sum(float(part.square().sum()) for part in tensors)
        statistics[f"weights/{module} norm"] = sum_of_squares**0.5
        statistics[f"weights/{module} mean"] = mean
        statistics[f"weights/{module} deviation"] = max(sum_of_squares / count - mean**2, 0.0) ** 0.5
    return statistics


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM request a stop after the current step, and set the event; a second signal stops at once."""
    stop = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread alone
        return
    previous_handlers = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)


def append_history(directory: Path, images_seen: int, score: Score, images: Sequence[Pixels], **extra: float | None) -> bool:
    """Add a line to the history and a row to the strip of images (H, W, 3). Returns whether this checkpoint is the best so far.

    extra: more numbers. What a killed run wrote beyond it is replaced. Raises CheckpointError if the history is damaged.
    """
    history = [line for line in read_history(directory) if line["images"] < images_seen]
    earlier_scores: list[float | None] = [line["similarity"] for line in history]
    best = score.value is not None and all(before is None or score.value > before for before in earlier_scores)
    line = {"images": images_seen, "similarity": score.value, "low": score.low, "high": score.high, **extra, "best": best}
    write_text(directory / HISTORY_FILE, "".join(json.dumps(entry) + "\n" for entry in [*history, line]))

    # A row that is damaged, or of another run's size, is left out of the strip.
    folder, newest = directory / "samples", image_strip(images)
    write_png(folder / f"{images_seen:09}.png", Image.fromarray(newest))
    earlier = [path for path in sorted(folder.glob("*.png")) if path.stem.isdecimal() and int(path.stem) < images_seen]
    rows = [row for path in earlier if (row := _read_row(path)) is not None and row.shape == newest.shape]
    write_png(directory / STRIP_FILE, Image.fromarray(np.concatenate([*rows, newest])))
    return best


def image_strip(images: Sequence[Pixels]) -> Pixels:
    """N images (H, W, 3) side by side: (H, N W, 3)."""
    return np.concatenate(list(images), 1)


def read_history(directory: Path) -> list[dict[str, float]]:
    """The lines of validation.jsonl, none where there is no such file. Raises CheckpointError if it is damaged."""
    path = directory / HISTORY_FILE
    try:
        lines = [parse_json(line) for line in read_lines(path)]
        for number, line in enumerate(lines, 1):
            known = isinstance(line, dict) and "similarity" in line
            required = [line.get("images"), *([] if line["similarity"] is None else [line["similarity"]])] if known else [None]
            if not all(type(value) in (int, float) for value in required):
                raise UnreadableError(f"says nothing in line {number}")
    except FileNotFoundError:
        return []
    except (OSError, UnreadableError) as problem:
        needed = "the history of this training is needed, or none"
        raise CheckpointError(f"{path} {reason(problem)}", needed, "Remove it: it is begun anew") from problem
    return lines


def _read_row(path: Path) -> Pixels | None:
    try:
        with open_regular(path, MAX_ROW_BYTES) as file:
            return np.asarray(Image.open(file, formats=["PNG"]).convert("RGB"))
    except DECODER_ERRORS:
        return None
