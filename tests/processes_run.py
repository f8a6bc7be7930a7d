"""A training run in several processes: `processes_run.py DIR PROCESSES [SIGNAL]`.

torchrun starts the processes, or else this script forks them and hands them the signals that it gets, as torchrun does. SIGNAL:
what the main process sends whoever started it, at a step between two checkpoints.
It writes its losses to DIR/losses.json, and to DIR/threads.json the threads that still run when Python ends.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

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


ASKED_STEP, SECONDS = 12, 0.3  # how long a step takes from then on: the signal is to come before the checkpoint at 20


def main() -> None:
    directory, processes, *asked = Path(sys.argv[1]), *map(int, sys.argv[2:])
    if "RANK" in os.environ:
        train(directory, *asked)
    else:
        sys.exit(fork(processes, partial(train, directory, *asked)))


def train(directory: Path, asked: int = 0) -> None:
    is_main = os.environ["RANK"] == "0"
    if is_main:
        atexit.register(write_threads, directory / "threads.json")  # first, and thus called last
    torch.set_num_threads(1)
    torch.manual_seed(distributed_state().process_index)  # weights that differ must not matter
    data = torch.randn(11, 5, generator=torch.Generator().manual_seed(0))
    model, seldom = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 5)), nn.Linear(5, 5)
    calls = count()

    def loss(indices: Tensor, draws: StepRNG) -> Tensor:
        step, half = divmod(next(calls), SCHEDULE.gradient_accumulation_steps)
        if asked and is_main and (step, half) == (ASKED_STEP, 0):
            os.kill(os.getppid(), asked)
        if asked and step >= ASKED_STEP:
            time.sleep(SECONDS / SCHEDULE.gradient_accumulation_steps)
        rows = data[indices]
        noisy = rows + draws.normal(5) * (draws.uniform() < 0.5)[:, None]
        predicted, (chosen,) = model(noisy), torch.where(draws.uniform() < 0.1)
        if len(chosen):  # in some steps in one process alone, in others in none
            predicted[chosen] += seldom(noisy[chosen])
        return (predicted - rows).square().mean()

    fit({"model": model, "seldom": seldom}, loss, len(data), SCHEDULE, directory)
    if is_main:
        board = EventAccumulator(str(directory / "tensorboard")).Reload()
        values = {name: [event.value for event in board.Scalars(f"training/{name}")] for name in ("loss", "gradient norm")}
        (directory / "losses.json").write_text(json.dumps(values))


def fork(processes: int, work: Callable[[], None]) -> int:
    """The processes, each a fork of this one that does the work as torchrun's do. How many of them failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    children = []
    for rank in range(processes):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                work()
                code = 0
            except Exception:  # noqa: BLE001 - a process says what went wrong
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)

    def hand_on(number: int, _: Any) -> None:
        for child in children:
            os.kill(child, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, hand_on)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def write_threads(path: Path) -> None:
    if not Path("/proc/self/task").is_dir():
        return
    path.write_text(json.dumps([(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()]))


if __name__ == "__main__":
    main()
