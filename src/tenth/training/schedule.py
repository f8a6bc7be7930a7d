"""The training schedule: number of images, learning rate and data order."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterator
from typing import Annotated

import torch
from torch import Tensor

from tenth.core.config import Count, NonNegative, Positive, WholeNumber, config_dataclass, one_of, require
from tenth.core.rng import derive_seed
from tenth.training.optimizer import OPTIMIZERS

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
PRECISIONS = ("auto", *DTYPES)


@config_dataclass
class TrainingConfig:
    """How long, how fast and how often. Time is counted in images, so that the batch size can change."""

    total_images: Count  # seen in all
    batch_size: Count = 64  # images a step, over all processes and parts
    gradient_accumulation_steps: Count = 1  # parts in which a process works through its share of a batch: memory for time
    learning_rate: Positive = 1e-4  # peak, after the warm-up; a cosine then takes it to zero
    warmup_images: WholeNumber = 10_000  # images over which the rate rises from zero
    cooldown_images: WholeNumber = 0  # images at the end over which it falls to zero, constant before; 0: the cosine
    weight_decay: NonNegative = 1e-2
    max_grad_norm: Positive = 1.0  # largest norm of the gradient
    ema_halflife_images: Count = 20_000  # images after which a weight's share in the average has halved; shorter at the start
    extra_ema_halflives_images: tuple[Count, ...] = ()  # of further averages kept in checkpoints, to choose from afterwards
    checkpoint_every_images: Count = 20_000  # images between checkpoints
    seed: WholeNumber = 0
    optimizer: Annotated[str, one_of(OPTIMIZERS)] = "adamw"  # optimizer.py says what each is
    precision: Annotated[str, one_of(PRECISIONS)] = "auto"  # of autocast: `autocast_dtype`; weights and averages are fp32

    def __post_init__(self) -> None:
        batch_size, steps, cooldown = self.batch_size, self.gradient_accumulation_steps, self.cooldown_images
        require(batch_size % steps == 0, "gradient_accumulation_steps", steps, f"a divisor of the batch_size of {batch_size}")
        require(cooldown <= self.total_images, "cooldown_images", cooldown, f"at most total_images, {self.total_images}")
        half_lives = (self.ema_halflife_images, *self.extra_ema_halflives_images)
        distinct = len(set(half_lives)) == len(half_lives)
        require(distinct, "extra_ema_halflives_images", half_lives[1:], "each once, and none equal to ema_halflife_images")

    @property
    def num_steps(self) -> int:
        """Steps in all; the last one may see more images than were asked for."""
        return math.ceil(self.total_images / self.batch_size)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype:
    """What a step computes in. precision: of PRECISIONS; auto: bf16 where the device computes in it, else fp32.

    A processor without it emulates it, ten times as slow and more. fp16 is for GPUs; the loss is scaled.
    """
    return DTYPES[precision if precision != "auto" else "bf16" if computes_in_bf16(device) else "fp32"]


def computes_in_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16. Others than CPUs and CUDA's: taken to have them."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return True
    if platform.machine().lower() in ("x86_64", "amd64"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # Arm's, asked of the library that computes


def learning_rate(schedule: TrainingConfig, images_seen: int) -> float:
    """Linear warm-up, then a cosine to zero; with a cooldown constant, then linear (Hägele et al. 2024, arXiv:2405.18392)."""
    total, warmup, cooldown = schedule.total_images, schedule.warmup_images, schedule.cooldown_images
    rate = schedule.learning_rate * (min(1.0, (images_seen + schedule.batch_size) / warmup) if warmup else 1.0)
    if cooldown:
        return rate * min(1.0, max(0.0, (total - images_seen) / cooldown))
    return rate * 0.5 * (1 + math.cos(math.pi * min(1.0, images_seen / total)))


WINDOW_BLOCKS = 16  # blocks of items that are shuffled together


def shuffled_indices(num_items: int | Tensor, seed: int, start: int, count: int) -> Tensor:
    """Items start ... start + count of an endless sequence of shuffled epochs: (count,), a pure function of its arguments.

    num_items: a number, or (S,) of items in blocks, each together on a disk. In each epoch the blocks are shuffled and
    dealt into windows of at most WINDOW_BLOCKS; within a window all items are. Blocks of one window are as one number.
    """
    return torch.cat([items[order][part] for items, order, part in _windows(num_items, seed, start, count)])


def shuffled_window(num_items: int | Tensor, seed: int, start: int, count: int) -> Tensor:
    """The items, ascending, of the windows from which `shuffled_indices` takes those of its arguments: (W,)."""
    windows = [items for items, _, _ in _windows(num_items, seed, start, count)]
    return windows[0] if len(windows) == 1 else torch.cat(windows).unique()


def _windows(num_items: int | Tensor, seed: int, start: int, count: int) -> Iterator[tuple[Tensor, Tensor, slice]]:
    """Each window of items start ... start + count: its items, ascending, their order, and which of the ordered are meant."""
    sizes = torch.as_tensor(num_items).view(-1)
    firsts, total = sizes.cumsum(0) - sizes, int(sizes.sum())
    num_windows = math.ceil(len(sizes) / WINDOW_BLOCKS)
    for epoch in range(start // total, (start + count - 1) // total + 1):
        # The blocks of each window, and where it begins and ends in the sequence.
        generator = torch.Generator().manual_seed(derive_seed("blocks", seed, epoch))
        shuffled = torch.randperm(len(sizes), generator=generator)
        windows = shuffled.tensor_split(num_windows)
        last_blocks = torch.tensor([len(blocks) for blocks in windows]).cumsum(0) - 1
        ends = sizes[shuffled].cumsum(0)[last_blocks] + epoch * total
        first = int(torch.searchsorted(ends, start, right=True))
        for number in range(first, num_windows):
            blocks, end = windows[number].sort().values, int(ends[number])
            begin = end - int(sizes[blocks].sum())
            if begin >= start + count:
                return
            ranges = [torch.arange(int(firsts[block]), int(firsts[block] + sizes[block])) for block in blocks.tolist()]
            items = torch.cat(ranges)
            generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch * num_windows + number))
            order = torch.randperm(len(items), generator=generator)
            yield items, order, slice(max(start - begin, 0), min(start + count, end) - begin)
