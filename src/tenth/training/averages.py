"""Exponential moving averages (EMA) of weights, over several half-lives side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class EMAWeights:
    """Exponential moving averages of the same parameters, by half-life in images; the first one is the training's result.

    The decay counts images and is faster at the start, so that no average is dominated by the initial weights. Source: Karras
    et al. 2022, arXiv:2206.00364, appendix F; several half-lives: Karras et al. 2024, arXiv:2312.02696.
    """

    def __init__(self, names: Sequence[str], parameters: Sequence[Tensor], half_lives: Sequence[int]) -> None:
        self.names, self.parameters = names, parameters
        self.ema = {each: [parameter.detach().clone() for parameter in parameters] for each in half_lives}

    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """Average in the parameters after `images_seen` images, `batch_size` more than at the last update."""
        for half_life, mean in self.ema.items():
            decay = 0.5 ** (batch_size / min(half_life, max(1.0, 0.05 * images_seen)))
            torch._foreach_lerp_(mean, list(self.parameters), 1 - decay)

    @property
    def primary(self) -> dict[str, Tensor]:
        """The first average, by the parameters' names."""
        return dict(zip(self.names, next(iter(self.ema.values())), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """All averages, as a checkpoint holds them."""
        keyed_averages = zip(ema_keys(list(self.ema)), self.ema.values(), strict=True)
        return {f"{key}.{name}": value for key, mean in keyed_averages for name, value in zip(self.names, mean, strict=True)}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave. An average that is not in `tensors` starts as a copy of the first."""
        first, *_ = names = ema_keys(list(self.ema))
        for key, mean in zip(names, self.ema.values(), strict=True):
            for name, value in zip(self.names, mean, strict=True):
                value.copy_(tensors.get(f"{key}.{name}", tensors[f"{first}.{name}"]))


def ema_keys(half_lives: Sequence[int]) -> list[str]:
    """The prefix of each average's tensors in a checkpoint."""
    return ["average", *(f"average-{each}" for each in half_lives[1:])]


def tensors_under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors "PREFIX.NAME" by NAME: one average of a checkpoint, or one module of an average."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}
