"""A training run that is killed: `killed_run.py DIR KILLS SEED`. Prints what happened as one line of JSON.

Children are forked after the imports and before any computation, each trains until it is killed; the last one ends by itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from tenth.core.rng import StepRNG
from tenth.training.checkpoint import load_checkpoint
from tenth.training.loop import fit
from tenth.training.schedule import TrainingConfig

ITEMS, WIDTH = 37, 400
SCHEDULE = TrainingConfig(
    total_images=1600,
    batch_size=8,
    warmup_images=80,
    ema_halflife_images=80,
    checkpoint_every_images=80,
    learning_rate=1e-3,
    precision="fp32",
)


def train(directory: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    data = torch.randn(ITEMS, WIDTH)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Dropout(0.1), nn.Linear(WIDTH, WIDTH))
    directory.mkdir(exist_ok=True)
    checkpoint = load_checkpoint(directory)
    step = checkpoint.step if checkpoint else 0
    with (directory / "seen.log").open("a") as log:

        def loss(indices: Tensor, rng: StepRNG) -> Tensor:
            nonlocal step
            os.write(log.fileno(), f"{json.dumps([step, indices.tolist()])}\n".encode())  # one write: whole or not at all
            step += 1
            rows = data[indices]
            return (model(rows + rng.normal(WIDTH)) - rows).square().mean()

        fit({"model": model}, loss, ITEMS, SCHEDULE, directory)


def child(directory: Path) -> int:
    process = os.fork()
    if process == 0:
        sys.stderr = (directory.parent / f"{directory.name}.err").open("a")
        code = 1
        try:
            train(directory)
            code = 0
        finally:
            os._exit(code)
    return process


def unfinished(directory: Path) -> set[str]:
    """Checkpoints that are being written, or were when their writer was killed."""
    return {path.name for path in directory.glob(".step-*.part")}


def steps_done(directory: Path) -> int:
    """Steps that were begun, over all processes: each announces its own in the log."""
    log = directory / "seen.log"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def wait_until(process: int, happened: Callable[[], bool]) -> None:
    """Return when it has happened, or the process has ended."""
    while not happened() and not os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG):
        time.sleep(0.002)  # a save takes longer


def main() -> None:
    directory, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), random.Random(int(sys.argv[3]))
    killed = killed_while_saving = 0
    while killed < kills:
        left = unfinished(directory)
        done = steps_done(directory)
        process = child(directory)
        in_save = rng.random() < 0.5
        wanted = done + rng.randint(1, 9 if in_save else 14)
        wait_until(process, lambda wanted=wanted: steps_done(directory) >= wanted)
        if in_save:  # a moment within the next save
            wait_until(process, lambda left=left: bool(unfinished(directory) - left))
            time.sleep(rng.uniform(0, 0.005))
        killed_while_saving += bool(unfinished(directory) - left)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        killed += os.WIFSIGNALED(status)
        if os.WIFEXITED(status):
            break
    _, status = os.waitpid(child(directory), 0)
    print(json.dumps({"killed": killed, "saving": killed_while_saving, "ended": status}))


if __name__ == "__main__":
    main()
