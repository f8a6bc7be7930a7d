"""Layers that store their weights in 16 bits and compute in the precision of their input.

Not diffusers' layerwise casting, after whose first pass weights no longer lie in the mapped file (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.core.errors import ModelError

# In names of layers that stay float32: the libraries read a model's dtype from them, T5 that of what it gives its wo.
KEEP_FLOAT32 = ("embed", "conv_in", "shared", "DenseReluDense.wo")


class HalfStorageLinear(nn.Linear):
    """A linear layer with 16-bit weights. The result is that of the same weights in float32, to the bit."""

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = F.linear(x, self.weight.to(x.dtype), _match_dtype(self.bias, x))
        return output


class HalfStorageConv2d(nn.Conv2d):
    """A convolution with 16-bit weights."""

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self._conv_forward(x, self.weight.to(x.dtype), _match_dtype(self.bias, x))
        return output


HALF_STORAGE: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: HalfStorageLinear, nn.Conv2d: HalfStorageConv2d}


def store_in_half(module: nn.Module) -> None:
    """Store the weights of linear layers and convolutions in 16 bits; all others become float32.

    Those of 16 bits stay where they are, also in a mapped file; others become float16, or bfloat16 if too large for it.
    """
    castable = {id(parameter) for _, layer in _castable_layers(module) for parameter in layer.parameters(recurse=False)}
    for parameter in module.parameters():
        if id(parameter) not in castable:
            parameter.data = parameter.data.float()
        elif parameter.dtype == torch.float32:
            half = parameter.data.half()
            parameter.data = half if bool(half.isfinite().all()) else parameter.data.bfloat16()
    for name, layer in list(_castable_layers(module)):
        if type(layer) in HALF_STORAGE:
            module.set_submodule(name, _same_layer(layer))


def require_float32(module: Any) -> None:
    """Raises ModelError unless all weights are float32, as training and export need them."""
    mismatch = next((name for name, value in module.named_parameters() if value.dtype != torch.float32), None)
    if mismatch is not None:
        needed, action = (
            "training and export need all weights in float32",
            "Load the model with LoadOptions(full_precision=True)",
        )
        raise ModelError(f"the model's {mismatch} is not in float32", needed, action)


def is_castable(name: str, shape: Sequence[int]) -> bool:
    """Whether `store_in_half` keeps a tensor in 16 bits, by its name and shape in a file."""
    return len(shape) in (2, 4) and not any(word in name for word in KEEP_FLOAT32) and not name.startswith("image_proj")


def _castable_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Not those that share the weights of an embedding, as a language model's last layer may."""
    embeddings = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    for name, layer in module.named_modules():
        castable = type(layer) in (*HALF_STORAGE, *HALF_STORAGE.values()) and id(layer.weight) not in embeddings
        if castable and not any(word in name for word in KEEP_FLOAT32):
            yield name, layer


def _same_layer(layer: Any) -> nn.Module:
    """A layer of half storage with the very parameters of another."""
    with torch.device("meta"):  # no memory, and no random numbers
        if isinstance(layer, nn.Linear):
            made: nn.Module = HalfStorageLinear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        else:
            sizes = layer.in_channels, layer.out_channels, layer.kernel_size
            place = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "groups": layer.groups}
            made = HalfStorageConv2d(*sizes, **place, bias=layer.bias is not None, padding_mode=layer.padding_mode)
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(made, name, parameter)
    return made.train(layer.training)


def _match_dtype(bias: Tensor | None, x: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(x.dtype)
