"""The curves of a training as TensorBoard reads them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tenth.core.errors import DataError
from tenth.training.monitoring import TrainingLogger


def test_no_file_is_named_after_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "annas-laptop")
    for seen in (0, 8):
        with TrainingLogger(tmp_path, enabled=True) as board:
            board.start(seen, 16)
            board.log_step(seen + 8, {"loss": 1.0})
            board.log_checkpoint(seen + 8, {"a.b": torch.ones(2)}, {"picture": np.zeros((4, 4, 3), np.uint8)})
    written = list((tmp_path / "tensorboard").iterdir())
    assert len(written) == 2
    assert not any("annas-laptop" in path.name or b"annas-laptop" in path.read_bytes() for path in written)
    curve = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in curve.Scalars("training/loss")] == [8, 16]
    assert [event.step for event in curve.Images("picture")] == [8, 16]


class Full:
    """A file on a disk that is full."""

    def write(self, content: bytes) -> None: ...

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_also_by_the_curves(tmp_path: Path) -> None:
    board = TrainingLogger(tmp_path, enabled=True)
    board.start(0, 16)
    assert board.event_writer is not None
    board.event_writer.writer._writer = Full()
    with pytest.raises(DataError, match=r"tensorboard/events.* cannot be written \(No space left on device\)"):
        board.log_checkpoint(8, {"a.b": torch.ones(2)}, None)
