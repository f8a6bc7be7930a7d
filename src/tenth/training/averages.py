"""Moving averages of weights over several lengths, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Averages:
    """Exponential averages of the same parameters, by half-life in images; the first is the one that training gives.

    An average forgets by images, faster at the start, so that it is never dominated by the initial weights. Source: Karras et
    al. 2022, arXiv:2206.00364, appendix F; several lengths to choose from afterwards: Karras et al. 2024, arXiv:2312.02696.
    """

    def __init__(self, names: Sequence[str], parameters: Sequence[Tensor], half_lives: Sequence[int]) -> None:
        self.names, self.parameters = names, parameters
        self.means = {each: [parameter.detach().clone() for parameter in parameters] for each in half_lives}

    @torch.no_grad()
    def add(self, seen: int, batch: int) -> None:
        """The parameters as they are after `seen` images, `batch` more than before."""
        for half_life, mean in self.means.items():
            decay = 0.5 ** (batch / min(half_life, max(1.0, 0.05 * seen)))
            torch._foreach_lerp_(mean, list(self.parameters), 1 - decay)

    @property
    def first(self) -> dict[str, Tensor]:
        """The averaged weights, by the parameters' names."""
        return dict(zip(self.names, next(iter(self.means.values())), strict=True))

    def tensors(self) -> dict[str, Tensor]:
        """All of them, as a checkpoint holds them."""
        places = zip(keys(list(self.means)), self.means.values(), strict=True)
        return {f"{key}.{name}": value for key, mean in places for name, value in zip(self.names, mean, strict=True)}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """What `tensors` gave, back. An average that was not kept then begins as the first was."""
        first, *_ = names = keys(list(self.means))
        for key, mean in zip(names, self.means.values(), strict=True):
            for name, value in zip(self.names, mean, strict=True):
                value.copy_(tensors.get(f"{key}.{name}", tensors[f"{first}.{name}"]))


def keys(half_lives: Sequence[int]) -> list[str]:
    """What stands before an average's names in a checkpoint."""
    return ["average", *(f"average-{each}" for each in half_lives[1:])]


def average_in(tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """One average from a checkpoint's tensors, by the parameters' names."""
    return {name.removeprefix(f"{key}."): value for name, value in tensors.items() if name.startswith(f"{key}.")}
