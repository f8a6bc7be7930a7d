"""The only training loop. It knows parameters, items and a loss; what is learnt is the caller's."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from tenth.checkpoint import load_checkpoint, save_checkpoint
from tenth.draws import Draws, seed_of
from tenth.errors import CheckpointError, DataError

Loss = Callable[[Tensor, Draws], Tensor]  # (item indices (B,), this step's random numbers) -> a scalar
Watch = Callable[[int, Mapping[str, Tensor]], None]  # (images seen, averaged weights by name), at every checkpoint


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and how often. Time is counted in images, so that the batch size can change."""

    images: int  # seen in all
    batch: int = 64  # images a step
    learning_rate: float = 1e-4  # peak, after the warm-up; a cosine then takes it to zero
    warmup: int = 10_000  # images over which the rate rises from zero
    weight_decay: float = 1e-2
    clip: float = 1.0  # largest norm of the gradient
    half_life: int = 20_000  # images after which a weight's share in the average has halved; shorter at the start
    save_every: int = 20_000  # images between checkpoints
    seed: int = 0
    bfloat16: bool = True  # autocast; the weights and their averages stay float32


def fit(
    modules: Mapping[str, nn.Module], loss: Loss, items: int, schedule: Schedule, directory: Path, watch: Watch | None = None
) -> dict[str, Tensor]:
    """Train `modules` and return the moving average of their weights, by "module.parameter".

    loss: a function of item indices (B,) in [0, items) and of random numbers that depend on (seed, step) alone, so that a run
    that was killed and resumed sees the same numbers. directory: where checkpoints are; if there is one, it goes on from it.
    Source of the averaging's warm-up: Karras et al. 2022, arXiv:2206.00364, appendix F. KeyboardInterrupt saves first.
    Raises DataError at a loss that is not finite, CheckpointError at checkpoints of other modules or all damaged.
    """
    names, parameters = zip(*_named_parameters(modules), strict=True)
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=schedule.weight_decay, betas=(0.9, 0.99))
    step = _restore(directory, names, parameters, average, optimizer)
    steps = math.ceil(schedule.images / schedule.batch)
    save_steps = max(1, schedule.save_every // schedule.batch)
    bar = tqdm(total=steps * schedule.batch, initial=step * schedule.batch, unit="img", file=sys.stderr, mininterval=1)
    device = parameters[0].device.type
    first, smooth = step, 0.0
    try:
        while step < steps:
            # What this step sees: a pure function of (seed, step).
            indices = order(items, schedule.seed, step * schedule.batch, schedule.batch)
            draws = Draws(schedule.seed, step, schedule.batch)

            # Forward, backward, one step of AdamW under the schedule.
            with torch.autocast(device, torch.bfloat16, enabled=schedule.bfloat16):
                value = loss(indices, draws)
            if not math.isfinite(value.item()):
                raise DataError(
                    f"the loss is {value.item()} at step {step}",
                    "a finite loss is needed",
                    "Look for NaN in the data, or lower learning_rate",
                )
            value.backward()
            nn.utils.clip_grad_norm_(parameters, schedule.clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(schedule, step * schedule.batch)
            optimizer.step()
            optimizer.zero_grad()
            step += 1

            # The average forgets by images, faster at the start, so that it is never dominated by the initial weights.
            seen = step * schedule.batch
            decay = 0.5 ** (schedule.batch / min(schedule.half_life, max(1.0, 0.05 * seen)))
            with torch.no_grad():
                torch._foreach_lerp_(average, parameters, 1 - decay)
            smooth += (value.item() - smooth) / min(step - first, 200)
            bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
            bar.update(schedule.batch)

            if step % save_steps == 0 or step == steps:
                _save(directory, step, names, parameters, average, optimizer)
                if watch is not None:
                    watch(seen, dict(zip(names, average, strict=True)))
    except KeyboardInterrupt:
        _save(directory, step, names, parameters, average, optimizer)
        raise
    finally:
        bar.close()
    return dict(zip(names, average, strict=True))


def learning_rate(schedule: Schedule, seen: int) -> float:
    """Linear warm-up, then a cosine to zero at the last image."""
    warm = min(1.0, (seen + schedule.batch) / schedule.warmup) if schedule.warmup else 1.0
    return schedule.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / schedule.images)))


def order(items: int, seed: int, start: int, count: int) -> Tensor:
    """Items start ... start + count of an endless sequence of shuffled epochs: a pure function of its arguments."""
    indices = []
    for epoch in range(start // items, (start + count - 1) // items + 1):
        generator = torch.Generator().manual_seed(seed_of("order", seed, epoch))
        shuffled = torch.randperm(items, generator=generator)
        first, last = max(start - epoch * items, 0), min(start + count - epoch * items, items)
        indices.append(shuffled[first:last])
    return torch.cat(indices)


def _named_parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        for inner, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield f"{name}.{inner}", parameter


def _save(
    directory: Path,
    step: int,
    names: tuple[str, ...],
    parameters: tuple[nn.Parameter, ...],
    average: list[Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter, mean in zip(names, parameters, average, strict=True):
        tensors |= {f"weight.{name}": parameter, f"average.{name}": mean}
        tensors |= {f"{key}.{name}": value for key, value in optimizer.state[parameter].items()}
    save_checkpoint(directory, step, tensors)


def _restore(
    directory: Path,
    names: tuple[str, ...],
    parameters: tuple[nn.Parameter, ...],
    average: list[Tensor],
    optimizer: torch.optim.Optimizer,
) -> int:
    checkpoint = load_checkpoint(directory)
    if checkpoint is None:
        return 0
    for line in checkpoint.skipped:
        print(line, file=sys.stderr)
    saved = {name.removeprefix("weight.") for name in checkpoint.tensors if name.startswith("weight.")}
    if saved != set(names):
        raise CheckpointError(
            f"{directory} holds a checkpoint of other weights",
            "one of this recipe is needed to go on",
            "Choose another directory",
        )
    with torch.no_grad():
        for name, parameter, mean in zip(names, parameters, average, strict=True):
            parameter.copy_(checkpoint.tensors[f"weight.{name}"])
            mean.copy_(checkpoint.tensors[f"average.{name}"])
            keys = ("step", "exp_avg", "exp_avg_sq")
            state = {key: checkpoint.tensors[f"{key}.{name}"] for key in keys if f"{key}.{name}" in checkpoint.tensors}
            if state:
                optimizer.state[parameter] = state
    return checkpoint.step
