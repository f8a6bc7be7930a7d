"""The training schedule: number of images, learning rate and data order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tenth.core.errors import RecipeError
from tenth.core.rng import derive_seed
from tenth.training.optimizer import OPTIMIZERS

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class TrainingConfig:
    """How long, how fast and how often. Time is counted in images, so that the batch size can change."""

    total_images: int  # seen in all
    batch_size: int = 64  # images a step, over all processes and parts
    gradient_accumulation_steps: int = 1  # parts in which a process works through its share of a batch: memory for time
    learning_rate: float = 1e-4  # peak, after the warm-up; a cosine then takes it to zero
    warmup_images: int = 10_000  # images over which the rate rises from zero
    cooldown_images: int = 0  # images at the end over which it falls to zero, constant before; 0: the cosine
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0  # largest norm of the gradient
    ema_halflife_images: int = 20_000  # images after which a weight's share in the average has halved; shorter at the start
    extra_ema_halflives_images: tuple[int, ...] = ()  # of further averages kept in checkpoints, to choose from afterwards
    checkpoint_every_images: int = 20_000  # images between checkpoints
    seed: int = 0
    optimizer: str = "adamw"  # or "adamw-8bit": its moments in a quarter of the memory; or "muon" (optimizer.py)
    precision: str = "bf16"  # of autocast: bf16, fp16 (with a scaled loss) or fp32; weights and their averages stay float32

    def __post_init__(self) -> None:
        for name in (
            "total_images",
            "batch_size",
            "gradient_accumulation_steps",
            "ema_halflife_images",
            "checkpoint_every_images",
            "learning_rate",
            "max_grad_norm",
        ):
            _check_setting(name, getattr(self, name), getattr(self, name) > 0, "more than 0")
        _check_setting(
            "gradient_accumulation_steps",
            self.gradient_accumulation_steps,
            self.batch_size % self.gradient_accumulation_steps == 0,
            f"a divisor of the batch of {self.batch_size}",
        )
        _check_setting("warmup_images", self.warmup_images, self.warmup_images >= 0, "0 or more")
        _check_setting(
            "cooldown_images", self.cooldown_images, 0 <= self.cooldown_images <= self.total_images, "from 0 to all images"
        )
        lengths = (self.ema_halflife_images, *self.extra_ema_halflives_images)
        _check_setting(
            "extra_ema_halflives_images",
            self.extra_ema_halflives_images,
            min(lengths) > 0 and len(set(lengths)) == len(lengths),
            "distinct, more than 0",
        )
        _check_setting("optimizer", self.optimizer, self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}")
        _check_setting("precision", self.precision, self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")

    @property
    def num_steps(self) -> int:
        """Steps in all; the last one may see more images than were asked for."""
        return math.ceil(self.total_images / self.batch_size)


def learning_rate(schedule: TrainingConfig, images_seen: int) -> float:
    """Linear warm-up, then a cosine to zero at the last image; or, with a cooldown, constant and then linear to zero.

    Source of the second, with which a run can be extended: Hägele et al. 2024, arXiv:2405.18392.
    """
    warmup_factor = min(1.0, (images_seen + schedule.batch_size) / schedule.warmup_images) if schedule.warmup_images else 1.0
    if schedule.cooldown_images:
        return (
            schedule.learning_rate
            * warmup_factor
            * min(1.0, max(0.0, (schedule.total_images - images_seen) / schedule.cooldown_images))
        )
    return (
        schedule.learning_rate * warmup_factor * 0.5 * (1 + math.cos(math.pi * min(1.0, images_seen / schedule.total_images)))
    )


def shuffled_indices(num_items: int, seed: int, start: int, count: int) -> Tensor:
    """Items start ... start + count of an endless sequence of shuffled epochs: (count,), a pure function of its arguments."""
    indices = []
    for epoch in range(start // num_items, (start + count - 1) // num_items + 1):
        generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
        shuffled = torch.randperm(num_items, generator=generator)
        first, last = max(start - epoch * num_items, 0), min(start + count - epoch * num_items, num_items)
        indices.append(shuffled[first:last])
    return torch.cat(indices)


def _check_setting(key: str, value: object, valid: bool, requirement: str) -> None:
    if not valid:
        raise RecipeError(f"{key} is {value!r}", f"needed: {requirement}", "Correct the recipe")
