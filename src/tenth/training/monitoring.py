"""A training run as seen from outside: progress bar, TensorBoard, and stopping on request."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from tenth.core.errors import DataError
from tenth.core.files.writing import explain_os_errors
from tenth.core.types import Pixels

CheckpointMetrics = Mapping[str, "float | Pixels"]  # measured at a checkpoint: numbers and images (H, W, 3), by name
TENSORBOARD_FOLDER = "tensorboard"
LOSS_WINDOW = 200  # steps over which the progress bar's loss is averaged
FLUSH_SECONDS = 30  # between writes to disk


class EventWriter:
    """An event file of TensorBoard, which grows while a run lasts.

    torch's own writer names its file after the host. Raises DataError, which names the file, if it cannot be written.
    """

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
        self.first_image = self.images_seen = images_seen
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
