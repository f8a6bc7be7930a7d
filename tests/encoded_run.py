"""A training from files in several processes: `encoded_run.py DIR ENCODED MODEL STEPS [PROCESSES]`.

torchrun or Ray Train starts them, or else this script forks PROCESSES. STEPS: after which all stop at once; -1: at the end.

Each process appends to DIR/seen-RANK.log a line for each micro-batch: its step, its first row in the batch, the people.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from processes_run import fork
from tenth.core.config import from_table
from tenth.core.rng import StepRNG
from tenth.training.adapter import dataset, trainer
from tenth.training.adapter.trainer import AdapterRecipe, AdapterTrainer, train_adapter
from tenth.training.distributed import distributed_state
from toy_encoding import toy_networks

BATCH = 12


def recipe(encoded: str) -> AdapterRecipe:
    schedule = {"total_images": 12 * BATCH, "batch_size": BATCH, "warmup_images": 12, "checkpoint_every_images": 3 * BATCH}
    table = {"aggregator": "set", "encoded": encoded, "references": {"min_photos": 1, "max_photos": 4, "p_impostor": 0.5}}
    return from_table(AdapterRecipe, table | {"schedule": schedule | {"precision": "fp32"}})


def train(directory: str, encoded: str, model: str, steps: int) -> None:
    """Train up to so many steps: then every process stops as if the machine had been switched off."""
    torch.set_num_threads(1)
    dataset.BLOCK_PHOTOS = 4  # several windows
    rank, loss = distributed_state().process_index, AdapterTrainer.loss

    def logged(self: AdapterTrainer, people: Tensor, rng: StepRNG) -> Tensor:
        if rng.step == steps:
            os._exit(0)
        with Path(directory, f"seen-{rank}.log").open("a") as log:
            log.write(json.dumps([rng.step, rng.micro_batch.start, people.tolist()]) + "\n")
        return loss(self, people, rng)

    trainer.AdapterTrainer.loss = logged  # type: ignore[method-assign]
    train_adapter(recipe(encoded), toy_networks(Path(model)), Path(directory))


def train_here(settings: dict[str, Any]) -> None:
    """For Ray Train, which passes one table."""
    train(**settings)


def main() -> None:
    directory, encoded, model, steps, *processes = sys.argv[1:]
    work = partial(train, directory, encoded, model, int(steps))
    if processes:
        sys.exit(fork(int(processes[0]), work))
    work()


if __name__ == "__main__":
    main()
