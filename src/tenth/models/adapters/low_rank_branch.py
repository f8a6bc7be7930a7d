"""Low-rank matrices beside a layer whose own weights cannot be changed, because they are kept in 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class LowRankBranch(nn.Module):
    """A linear layer and, added to its result, that of two matrices: (..., in) -> (..., out), in the layer's type.

    down: (r, in). up: (out, r). Its parameters have PEFT's names, `lora_A.weight` and `lora_B.weight`.
    """

    def __init__(self, base_layer: nn.Module, down: Tensor, up: Tensor, scaling: float = 1.0) -> None:
        super().__init__()
        self.base_layer, self.scaling = base_layer, scaling
        self.lora_A, self.lora_B = _linear(down), _linear(up)

    def forward(self, x: Tensor) -> Tensor:
        added = self.lora_B(self.lora_A(x.to(self.lora_A.weight.dtype)))
        output: Tensor = self.base_layer(x)
        result: Tensor = output + (self.scaling * added).to(output.dtype)
        return result


def _linear(matrix: Tensor) -> nn.Linear:
    """A layer without bias of this matrix (out, in)."""
    layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
    layer.weight = nn.Parameter(matrix.contiguous(), requires_grad=False)
    return layer


def has_packed_weights(layer: Any) -> bool:
    """Whether a linear layer keeps its weights in a form to which nothing can be added: of quantizers, ours and others'."""
    if not all(isinstance(getattr(layer, size, None), int) for size in ("out_features", "in_features")):
        return False
    weight = getattr(layer, "weight", None)
    return not (isinstance(weight, Tensor) and weight.is_floating_point() and weight.ndim == 2)


def device_of(layer: nn.Module) -> torch.device:
    """Where a layer's weights are, in whatever form."""
    return next(tensor.device for tensors in (layer.parameters(), layer.buffers()) for tensor in tensors)


@contextmanager
def installed_branches(module: nn.Module, branches: Mapping[str, LowRankBranch]) -> Iterator[None]:
    """A network with branches in the place of its layers of these paths; the layers are back when the block ends."""
    try:
        for path, branch in branches.items():
            module.set_submodule(path, branch)
        yield
    finally:
        for path, branch in branches.items():
            module.set_submodule(path, branch.base_layer)
