"""The optimizer of every training, and what it keeps of a parameter between steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tenth.errors import RecipeError

OPTIMIZERS = ("adamw", "adamw-8bit")
# Its step, two moments, and of those in eight bits their scales and levels.
MOMENTS = ("step", "exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2", "qmap1", "qmap2")
BETAS = (0.9, 0.99)


def optimizer_of(name: str, parameters: Sequence[nn.Parameter], rate: float, decay: float) -> torch.optim.Optimizer:
    """One of OPTIMIZERS. Raises RecipeError if it wants a library that is not installed.

    Source of eight bits: Dettmers et al. 2021, arXiv:2110.02861.
    """
    settings: dict[str, Any] = {"lr": rate, "weight_decay": decay, "betas": BETAS}
    if name == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as problem:
        needed = "needed: bitsandbytes, `pip install tenth[eight-bit]`, or adamw"
        raise RecipeError(f"optimizer is {name!r}", needed, "Install it, or correct the recipe") from problem
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **settings)
    return optimizer
