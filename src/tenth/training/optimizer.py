"""The optimizers, and which of their state a checkpoint keeps."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor, nn

from tenth.core.errors import RecipeError

OPTIMIZERS = ("adamw", "adamw-8bit", "muon")
# AdamW's step and two moments; with 8 bits their scales and levels; Muon's momentum.
STATE_KEYS = ("step", "exp_avg", "exp_avg_sq", "state1", "state2", "absmax1", "absmax2", "qmap1", "qmap2", "momentum_buffer")
BETAS = (0.9, 0.99)


def create_optimizer(
    name: str,
    parameters: Sequence[nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    embedding_weights: AbstractSet[Tensor] = frozenset(),
) -> torch.optim.Optimizer:
    """One of OPTIMIZERS. embedding_weights: parameters that are lookup tables, which Muon does not treat as matrices.

    Raises RecipeError if its library is not installed. Source of 8-bit AdamW: Dettmers et al. 2021, arXiv:2110.02861.
    """
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay, "betas": BETAS}
    if name == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    if name == "muon":
        return MuonAdamW(parameters, embedding_weights, **settings)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as problem:
        needed = "needed: bitsandbytes, `pip install 'tenth[eight-bit]'`, or adamw"
        raise RecipeError(f"optimizer is {name!r}", needed, "Install it, or correct the recipe") from problem
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **settings)
    return optimizer


class MuonAdamW(torch.optim.AdamW):
    """Muon for parameters of two or more dimensions, a convolution's as a matrix with a row per output; AdamW for the rest.

    Its steps are as large as AdamW's (Liu et al. 2025, arXiv:2502.16982, section 2.2). Source: Jordan et al. 2024, "Muon".
    """

    def __init__(self, parameters: Sequence[nn.Parameter], embedding_weights: AbstractSet[Tensor], **settings: Any) -> None:
        super().__init__(parameters, **settings)
        matrices = [each for each in parameters if each.ndim >= 2 and each not in embedding_weights]
        self.matrices = [(each, nn.Parameter(_as_matrix(each.detach(), each))) for each in matrices]
        shared_settings = {name: settings[name] for name in ("lr", "weight_decay")}
        self.muon = torch.optim.Muon([matrix for _, matrix in self.matrices], adjust_lr_fn="match_rms_adamw", **shared_settings)

    def step(self, closure: Any = None) -> Any:
        """One step of both. A matrix's Muon state is kept as the parameter's state, so that checkpoints hold it."""
        for parameter, matrix in self.matrices:
            matrix.grad = None if parameter.grad is None else _as_matrix(parameter.grad, parameter)
            parameter.grad = None
            self.muon.state[matrix] = self.state[parameter]
        for group, own_group in zip(self.muon.param_groups, self.param_groups, strict=True):
            group["lr"] = own_group["lr"]
        self.muon.step()
        return super().step(closure)


def _as_matrix(values: Tensor, weight: Tensor) -> Tensor:
    """(O, I, H, W) -> (O, I H W), or (O, H W I) where the weight is channels-last: in the order of its memory."""
    channels_last = weight.ndim == 4 and weight.is_contiguous(memory_format=torch.channels_last)
    return (values.permute(0, 2, 3, 1) if channels_last else values).flatten(1)
