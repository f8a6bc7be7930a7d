"""The one training loop. The caller gives modules, items and a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tenth.core.errors import DataError
from tenth.core.rng import StepRNG, derive_seed
from tenth.training.checkpoint import exclusive_run
from tenth.training.distributed import distributed_state
from tenth.training.frozen_network import autocast
from tenth.training.monitoring import CheckpointMetrics, TrainingLogger, graceful_stop
from tenth.training.schedule import TrainingConfig, learning_rate, shuffled_indices
from tenth.training.state import TrainState

# (item indices (B,), the micro-batch's random numbers) -> the mean loss over the micro-batch, a scalar.
LossFunction = Callable[[Tensor, StepRNG], Tensor]
# Called before each checkpoint with (images seen, averaged weights by name).
OnCheckpoint = Callable[[int, Mapping[str, Tensor]], CheckpointMetrics | None]


def fit(
    modules: Mapping[str, nn.Module],
    loss: LossFunction,
    num_items: int | Tensor,
    schedule: TrainingConfig,
    directory: Path,
    on_checkpoint: OnCheckpoint | None = None,
) -> dict[str, Tensor]:
    """Train `modules` and return the moving average of their weights, by "module.parameter".

    num_items: a number, or (S,) of items in blocks that are read together (`shuffled_indices`).
    loss: gets item indices in [0, num_items) and random numbers that depend on (seed, step) alone: resuming changes nothing.
    Under torchrun the batch is split over the processes. directory: of the checkpoints, the newest of which is resumed from.
    Ctrl-C and SIGTERM save after the step and raise KeyboardInterrupt. Raises DataError at a loss that is not finite,
    CheckpointError if checkpoints are of other modules, all damaged or in use.
    """
    distributed = distributed_state()
    state = TrainState(modules, schedule, distributed)
    with (
        exclusive_run(directory, distributed.is_main_process),
        graceful_stop() as stop,
        TrainingLogger(directory, distributed.is_main_process) as logger,
    ):
        # Resume from the newest undamaged checkpoint, all processes from the same one.
        distributed.wait_for_everyone()
        step = state.restore(directory)
        checkpoint_steps = max(1, schedule.checkpoint_every_images // schedule.batch_size)
        logger.start(step * schedule.batch_size, schedule.num_steps * schedule.batch_size)

        while step < schedule.num_steps:
            # The items of this step are a pure function of (seed, step); so are the masks of dropout layers.
            indices = shuffled_indices(num_items, schedule.seed, step * schedule.batch_size, schedule.batch_size)
            dropout_index = step * distributed.num_processes + distributed.process_index
            torch.manual_seed(derive_seed("dropout", schedule.seed, dropout_index))

            # Forward and backward, one micro-batch after the other: gradients add up to the mean over this process's share.
            totals = torch.zeros(2, device=distributed.device)  # the loss, and whether a stop was requested
            for part in state.micro_batches:
                rng = StepRNG(schedule.seed, step, schedule.batch_size, part)
                with autocast(distributed.device, state.precision):
                    part_loss = loss(indices[part], rng) / schedule.gradient_accumulation_steps
                state.scaler.scale(part_loss).backward()
                totals[0] += part_loss.detach()

            # All processes take the same step from the mean loss and gradient, and stop at the same step.
            totals[1] = float(stop.is_set())
            state.all_reduce_mean(totals)
            _check_finite(float(totals[0]), step)
            current_lr = learning_rate(schedule, step * schedule.batch_size)
            grad_norm = state.optimizer_step(current_lr)
            step += 1
            images_seen = step * schedule.batch_size
            state.ema.update(images_seen, schedule.batch_size)
            logger.log_step(images_seen, {"loss": float(totals[0]), "learning rate": current_lr, "gradient norm": grad_norm})

            # Validate before saving: what was saved has been validated, also if the process is killed between the two.
            stop_requested, is_last = bool(totals[1] > 0), step == schedule.num_steps
            ema = state.ema.primary
            if is_last or stop_requested or step % checkpoint_steps == 0:
                if distributed.is_main_process and (is_last or not stop_requested):
                    logger.log_checkpoint(images_seen, ema, on_checkpoint(images_seen, ema) if on_checkpoint else None)
                state.save(directory, step)
            if stop_requested and not is_last:
                raise KeyboardInterrupt
    distributed.wait_for_everyone()  # the last checkpoint is there
    return state.ema.primary


def _check_finite(value: float, step: int) -> None:
    if not math.isfinite(value):
        action = "Look for NaN in the data, or lower learning_rate"
        raise DataError(f"the loss is {value} at step {step}", "a finite loss is needed", action)
