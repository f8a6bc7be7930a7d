"""Layers that keep their weights in 16 bits and compute in the precision of what they are given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.core.errors import ModelError

WIDE = ("embedding", "conv_in")  # in the name of layers that stay float32: where the libraries read a model's precision


class NarrowLinear(nn.Linear):
    """A linear layer of narrow weights. With float16 weights of a file the result is that of float32 weights, to the bit."""

    def forward(self, given: Tensor) -> Tensor:
        made: Tensor = F.linear(given, self.weight.to(given.dtype), _like(self.bias, given))
        return made


class NarrowConv2d(nn.Conv2d):
    """A convolution of narrow weights."""

    def forward(self, given: Tensor) -> Tensor:
        made: Tensor = self._conv_forward(given, self.weight.to(given.dtype), _like(self.bias, given))
        return made


NARROW: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: NarrowLinear, nn.Conv2d: NarrowConv2d}


def narrow(module: nn.Module) -> None:
    """Keep the weights of linear layers and convolutions in 16 bits; all others become float32.

    Weights that have 16 bits stay as they are, in the file's pages where they are mapped; float32 ones become float16, which is
    what the published half-size files hold, or bfloat16 where a number is too large for it.
    """
    inside = {id(parameter) for layer in _layers(module) for parameter in layer.parameters(recurse=False)}
    for parameter in module.parameters():
        if id(parameter) not in inside:
            parameter.data = parameter.data.float()
        elif parameter.dtype == torch.float32:
            parameter.data = _in_16_bits(parameter.data)
    for layer in _layers(module):
        layer.__class__ = NARROW.get(type(layer), type(layer))


def check_whole(module: Any) -> None:
    """Raises ModelError unless all weights are float32, as learning and exporting need them."""
    odd = next((name for name, value in module.named_parameters() if value.dtype != torch.float32), None)
    if odd is not None:
        raise ModelError(
            f"the model's {odd} is not in float32",
            "learning and exporting need all weights in float32",
            "Load the model with Use(whole=True)",
        )


def narrows(name: str, shape: Sequence[int]) -> bool:
    """Whether `narrow` keeps a tensor in 16 bits, by its name and shape in a file."""
    return len(shape) in (2, 4) and not any(word in name for word in WIDE) and not name.startswith("image_proj")


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    for name, layer in module.named_modules():
        if type(layer) in (*NARROW, *NARROW.values()) and not any(word in name for word in WIDE):
            yield layer


def _in_16_bits(value: Tensor) -> Tensor:
    half = value.half()
    return half if bool(half.isfinite().all()) else value.bfloat16()


def _like(bias: Tensor | None, given: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(given.dtype)
