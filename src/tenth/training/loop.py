"""The only training loop. It knows parameters, items and a loss; what is learnt is the caller's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.distributed.nn  # now: imported while a group exists, its functions' defaults would keep the group, and its threads
from torch import Tensor, nn

from tenth.core.errors import DataError
from tenth.core.rng import Draws, seed_of
from tenth.training.checkpoint import claimed
from tenth.training.distributed import processes
from tenth.training.monitoring import Board, Seen, stopping
from tenth.training.schedule import Schedule, learning_rate, order
from tenth.training.state import Learning

Loss = Callable[[Tensor, Draws], Tensor]  # (item indices (B,), this part's random numbers) -> the mean over the part, a scalar
Watch = Callable[[int, Mapping[str, Tensor]], Seen | None]  # (images seen, averaged weights by name), before each checkpoint


def fit(
    modules: Mapping[str, nn.Module], loss: Loss, items: int, schedule: Schedule, directory: Path, watch: Watch | None = None
) -> dict[str, Tensor]:
    """Train `modules` and return the moving average of their weights, by "module.parameter".

    loss: a function of item indices in [0, items) and of random numbers that depend on (seed, step) alone, so that a run that
    was killed and resumed sees the same. Under torchrun the batch is split over the processes, and each weights the same.
    directory: where checkpoints are; if there is one, it goes on from it. Ctrl-C and SIGTERM save after the step and raise
    KeyboardInterrupt. Source of the averaging's warm-up: Karras et al. 2022, arXiv:2206.00364, appendix F.
    Raises DataError at a loss that is not finite, CheckpointError at checkpoints of other modules, all damaged or in use.
    """
    state = processes()
    learning = Learning(modules, schedule, state)
    with claimed(directory, state.is_main_process), stopping() as stop, Board(directory, state.is_main_process) as board:
        # Go on from the newest whole checkpoint, all processes from the same one.
        state.wait_for_everyone()
        step = learning.restore(directory)
        save_steps = max(1, schedule.save_every // schedule.batch)
        board.begin(step * schedule.batch, schedule.steps * schedule.batch)

        while step < schedule.steps:
            # What this step sees is a pure function of (seed, step); so is what dropout layers draw.
            indices = order(items, schedule.seed, step * schedule.batch, schedule.batch)
            torch.manual_seed(seed_of("dropout", schedule.seed, step * state.num_processes + state.process_index))

            # Forward and backward, part by part: gradients add up to the mean over this process's share.
            value = torch.zeros(2, device=state.device)  # the loss, and whether somebody wants to stop
            for part in learning.parts:
                draws = Draws(schedule.seed, step, schedule.batch, part)
                with torch.autocast(state.device.type, learning.precision, enabled=schedule.precision != "fp32"):
                    error = loss(indices[part], draws) / schedule.accumulate
                learning.scaler.scale(error).backward()
                value[0] += error.detach()

            # All processes see one loss and one gradient, and stop at one step.
            value[1] = float(stop.wanted)
            learning.reduce(value)
            _check_finite(float(value[0]), step)
            rate = learning_rate(schedule, step * schedule.batch)
            norm = learning.update(rate)
            step += 1
            seen = step * schedule.batch
            learning.averages.add(seen, schedule.batch)
            board.step(seen, {"loss": float(value[0]), "learning rate": rate, "gradient norm": norm})

            # Watched before it is saved: whatever is saved has been watched, also if a kill comes between the two.
            wanted, last = bool(value[1] > 0), step == schedule.steps
            average = learning.averages.first
            if last or wanted or step % save_steps == 0:
                if state.is_main_process and (last or not wanted):
                    board.checkpoint(seen, average, watch(seen, average) if watch else None)
                learning.save(directory, step)
            if wanted and not last:
                raise KeyboardInterrupt
    return learning.averages.first


def _check_finite(value: float, step: int) -> None:
    if not math.isfinite(value):
        raise DataError(
            f"the loss is {value} at step {step}", "a finite loss is needed", "Look for NaN in the data, or lower learning_rate"
        )
