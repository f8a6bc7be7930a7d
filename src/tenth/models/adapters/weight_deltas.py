"""Changes of a model's weights, of an identity or a LoRA file, applied and reverted to the last bit, layer by layer.

An identity's names are "part.path.lora_A.weight" and "....lora_B.weight" for low-rank matrices, whose product is added (as
diffusers' `load_lora_weights` reads them, alpha equal to the rank; Hu et al. 2021, arXiv:2106.09685), and
"part.path.weight.diff" for a difference to the base; paths as in lora_names.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tenth.core.errors import IdentityError, ModelError
from tenth.core.files.reading import UnreadableError
from tenth.core.files.tensors import check_finite_tensors
from tenth.models.adapters.lora_names import PARTS, get_parameter
from tenth.models.adapters.low_rank_branch import LowRankBranch, device_of, has_packed_weights, installed_branches

LORA_A, LORA_B, DIFF = ".lora_A.weight", ".lora_B.weight", ".diff"


class WeightDelta(Protocol):
    """What becomes of one weight."""

    @property
    def shape(self) -> torch.Size:
        """Of the weight that it is for."""

    def apply(self, weight: Tensor) -> Tensor:
        """A weight of this shape, float32 -> the new one, float32."""


@dataclass(frozen=True, eq=False)
class LowRankDelta:
    """Matrices of rank r, whose product is added to a linear layer's weight (out, in) or a kernel (out, in, h, w).

    down: (r, in) or (r, in, h, w). up: (out, r) or (out, r, 1, 1). scaling: how often the product counts, alpha / r.
    mid: (r, r, h, w), a third one, where LyCORIS took a kernel apart in three (then down is (r, in, 1, 1)).
    magnitude: of DoRA (Liu et al. 2024, arXiv:2402.09353, eq. 5), the length that is given to each row (out, 1, ...) or column
    (1, in, ...) of the sum. Raises ValueError if the shapes do not fit.
    """

    down: Tensor
    up: Tensor
    scaling: float = 1.0
    mid: Tensor | None = None
    magnitude: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = [each.shape for each in (self.up, self.mid, self.down) if each is not None]
        shape_text = " and ".join(str(tuple(shape)) for shape in shapes)
        if any(len(shape) not in (2, 4) or 0 in shape for shape in shapes) or (self.mid is not None and self.mid.ndim != 4):
            raise ValueError(f"of shapes {shape_text}, which are neither matrices nor kernels")
        if any(left[1] != right[0] for left, right in pairwise(shapes)):
            raise ValueError(f"of shapes {shape_text}, which do not go together")
        if sum(shape[2:].numel() > 1 for shape in shapes) > (self.shape[2:].numel() > 1):
            raise ValueError(f"of shapes {shape_text}, of which another one than usual is the kernel")
        rows, columns, *kernel = self.shape
        lengths = [(rows, 1, *[1] * len(kernel)), (1, columns, *[1] * len(kernel))]
        if self.magnitude is not None and tuple(self.magnitude.shape) not in lengths:
            raise ValueError(f"with magnitudes of shape {tuple(self.magnitude.shape)} for a weight of {tuple(self.shape)}")

    @property
    def shape(self) -> torch.Size:
        kernel = self.down if self.mid is None else self.mid
        return torch.Size([self.up.shape[0], self.down.shape[1], *kernel.shape[2:]])

    def split(self, rows: Sequence[int]) -> list[LowRankDelta]:
        """The same for layers of so many rows each, one after the other in the weight. Raises ValueError if it cannot be."""
        if len(rows) == 1:
            return [self]
        if self.magnitude is not None and self.magnitude.shape[0] == 1:
            raise ValueError("with magnitudes of columns, which are those of several layers together")
        ups = self.up.split(list(rows))
        magnitudes = [None] * len(rows) if self.magnitude is None else self.magnitude.split(list(rows))
        return [replace(self, up=up, magnitude=magnitude) for up, magnitude in zip(ups, magnitudes, strict=True)]

    def apply(self, weight: Tensor) -> Tensor:
        down, up = (each.to(weight.device, torch.float32).flatten(1) for each in (self.down, self.up))
        with torch.autocast(weight.device.type, enabled=False):  # in which a model that learns is looked at
            if self.mid is None:
                product = up @ down  # (out, in x h x w)
            else:
                between = self.mid.to(weight.device, torch.float32)
                product = torch.einsum("op,pqhw,qi->oihw", up, between, down)
        merged = weight + self.scaling * product.view(self.shape)
        if self.magnitude is None:
            return merged
        axes = tuple(axis for axis, size in enumerate(self.magnitude.shape) if size == 1)
        lengths = torch.linalg.vector_norm(merged, dim=axes, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        ratio: Tensor = self.magnitude.to(weight.device, torch.float32) / lengths
        return merged * ratio


@dataclass(frozen=True, eq=False)
class FullDelta:
    """What is added, as it is."""

    tensor: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    def apply(self, weight: Tensor) -> Tensor:
        return weight + self.tensor.to(weight.device, torch.float32)


@contextmanager
def applied_weights(pipeline: Any, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The pipeline with an identity's weights added, until the block ends. Raises IdentityError if they have no place in it.

    Low-rank matrices for layers whose weights are in 8 or 4 bits stand beside these. Raises ModelError for others' differences.
    """
    deltas = weight_deltas(weights)
    packed = _packed_layers(pipeline, deltas)
    branches = {name: _branch(name, layer, deltas.pop(f"{name}.weight")) for name, layer in packed.items()}
    parameters = _find_parameters(pipeline, deltas)
    originals = [(parameter, parameter.data) for parameter in parameters.values()]
    with ExitStack() as stack:
        for part in {name.partition(".")[0] for name in branches}:
            inside = {name.removeprefix(f"{part}."): each for name, each in branches.items() if name.startswith(f"{part}.")}
            stack.enter_context(installed_branches(getattr(pipeline, part), inside))
        try:
            try:
                _apply_deltas(parameters, deltas)
            except UnreadableError as problem:
                raise _mismatch_error(f"so much that the model {problem}") from problem
            yield
        finally:
            for parameter, original in originals:
                parameter.data = original


def _packed_layers(pipeline: Any, deltas: Mapping[str, WeightDelta]) -> dict[str, nn.Module]:
    """Those of the layers, by "part.path", whose weights nothing can be added to."""
    layers = {}
    for name in deltas:
        part, _, path = name.removesuffix(".weight").partition(".")
        layer = getattr(pipeline, part, None)
        for step in path.split("."):
            layer = getattr(layer, step, None)
        if layer is not None and has_packed_weights(layer):
            layers[f"{part}.{path}"] = layer
    return layers


def _branch(name: str, layer: Any, delta: WeightDelta) -> LowRankBranch:
    if delta.shape != (layer.out_features, layer.in_features):
        theirs = (layer.out_features, layer.in_features)
        raise _mismatch_error(f"{name} of shape {tuple(delta.shape)}, where the model's is {theirs}")
    if not isinstance(delta, LowRankDelta):
        needed = "whole differences are added to weights of 16 or 32 bits"
        raise ModelError(f"{name} is kept in 8 or 4 bits", needed, "Choose another --memory-profile, or dreambooth-lora")
    device = device_of(layer)
    return LowRankBranch(layer, delta.down.to(device), delta.up.to(device), delta.scaling)


def merge_weights(pipeline: Any, deltas: Mapping[str, WeightDelta]) -> None:
    """Change, for good, the weights that "part.path.weight" names.

    Raises IdentityError, before any is changed, if one has no place, and UnreadableError, in between, if a sum is not finite.
    """
    _apply_deltas(_find_parameters(pipeline, deltas), deltas)


def _find_parameters(pipeline: Any, deltas: Mapping[str, WeightDelta]) -> dict[str, nn.Parameter]:
    parameters = {name: find_parameter(pipeline, name) for name in deltas}
    for name, parameter in parameters.items():
        shape = deltas[name].shape
        if not shapes_match(shape, parameter.shape):
            raise _mismatch_error(f"{name} of shape {tuple(shape)}, where the model's is {tuple(parameter.shape)}")
    return parameters


@torch.no_grad()
def _apply_deltas(parameters: Mapping[str, nn.Parameter], deltas: Mapping[str, WeightDelta]) -> None:
    """One after the other, in float32, rounded once to what a weight is kept in."""
    for name, parameter in parameters.items():
        weight, delta = parameter.data, deltas[name]
        merged = delta.apply(weight.float().view(delta.shape)).view(weight.shape).to(weight.dtype)
        check_finite_tensors({name: merged})
        parameter.data = merged


def weight_deltas(weights: Mapping[str, Tensor]) -> dict[str, WeightDelta]:
    """What an identity's weights do to each parameter, by "part.path.weight". Raises IdentityError for other weights."""
    deltas: dict[str, WeightDelta] = {}
    for name, tensor in weights.items():
        if name.partition(".")[0] not in PARTS:
            raise _mismatch_error(name)
        if name.endswith(LORA_A):
            path = name.removesuffix(LORA_A)
            if path + LORA_B not in weights:
                raise _mismatch_error(f"{name} without {path}{LORA_B}")
            try:
                deltas[f"{path}.weight"] = LowRankDelta(tensor, weights[path + LORA_B])
            except ValueError as problem:
                raise _mismatch_error(f"{path} {problem}") from problem
        elif name.endswith(DIFF):
            deltas[name.removesuffix(DIFF)] = FullDelta(tensor)
        elif not (name.endswith(LORA_B) and name.removesuffix(LORA_B) + LORA_A in weights):
            raise _mismatch_error(name)
    return deltas


def find_parameter(pipeline: Any, name: str) -> nn.Parameter:
    """The named parameter. Raises IdentityError if there is none, ModelError if accelerate fetches it layer by layer."""
    part, _, path = name.partition(".")
    module = getattr(pipeline, part, None) if part in PARTS else None
    parameter = None if module is None else get_parameter(module, path)
    if parameter is None:
        raise _mismatch_error(name)
    if parameter.is_meta:
        found, needed = "weights that are fetched layer by layer", "all weights in one place are needed to add to them"
        raise ModelError(found, needed, "Free memory on the GPU, or set TENTH_DEVICE=cpu")
    return parameter


def shapes_match(shape: torch.Size, other: torch.Size) -> bool:
    """Whether two shapes are the same; a linear layer's is that of a 1 x 1 convolution."""
    one, two = (each[:2] if each[2:].numel() == 1 else each for each in (shape, other))
    return one == two


def _mismatch_error(found: str) -> IdentityError:
    action = "Make it again from the photos, or choose the model that it was made with"
    return IdentityError(f"this identity holds {found}", "weights of the model in use are needed", action)
