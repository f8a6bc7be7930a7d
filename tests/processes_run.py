"""A training run for torchrun: `processes_run.py DIR [SECONDS]`, which a step then takes at least.

The main process writes its losses to DIR/losses.json, and to DIR/threads.json the threads that still run when Python ends.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import time
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from tenth.core.rng import StepRNG
from tenth.training.distributed import distributed_state
from tenth.training.loop import fit
from tenth.training.schedule import TrainingConfig

SCHEDULE = TrainingConfig(
    total_images=320,
    batch_size=8,
    gradient_accumulation_steps=2,
    warmup_images=16,
    ema_halflife_images=40,
    checkpoint_every_images=80,
    learning_rate=1e-2,
    precision="fp32",
)


def main() -> None:
    directory, seconds = Path(sys.argv[1]), float((*sys.argv, 0)[2])
    if os.environ.get("RANK", "0") == "0":
        atexit.register(write_threads, directory / "threads.json")  # first, and thus called last
    torch.set_num_threads(1)
    torch.manual_seed(distributed_state().process_index)  # weights that differ must not matter
    data = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 5))

    def loss(indices: Tensor, draws: StepRNG) -> Tensor:
        time.sleep(seconds / SCHEDULE.gradient_accumulation_steps)
        rows = data[indices]
        noisy = rows + draws.normal(5) * (draws.uniform() < 0.5)[:, None]
        return (model(noisy) - rows).square().mean()

    fit({"model": model}, loss, len(data), SCHEDULE, directory)
    if distributed_state().is_main_process:
        board = EventAccumulator(str(directory / "tensorboard")).Reload()
        values = {name: [event.value for event in board.Scalars(f"training/{name}")] for name in ("loss", "gradient norm")}
        (directory / "losses.json").write_text(json.dumps(values))


def write_threads(path: Path) -> None:
    if not Path("/proc/self/task").is_dir():
        return
    path.write_text(json.dumps([(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]))


if __name__ == "__main__":
    main()
