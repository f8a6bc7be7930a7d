"""What is added to a model's weights, by an identity or a LoRA's file, and taken off again to the last bit.

An identity's names are "part.path.lora_A.weight" and "....lora_B.weight" for low-rank matrices, whose product is added (the
layout that diffusers' `load_lora_weights` reads, with alpha equal to the rank), and "part.path.weight.diff" for a difference to
the base; paths as in lora_names.py. What is added is computed for one layer at a time.
Source of low-rank matrices: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tenth.core.errors import IdentityError, ModelError
from tenth.core.file_reading import UnreadableError
from tenth.core.tensor_reading import check_numbers
from tenth.models.adapters.lora_names import PARTS, installed, kohya_name, published

LOW, HIGH, DIFFERENCE = ".lora_A.weight", ".lora_B.weight", ".diff"


class Change(Protocol):
    """What becomes of one weight."""

    @property
    def shape(self) -> torch.Size:
        """Of the weight that it is for."""

    def changed(self, weight: Tensor) -> Tensor:
        """A weight of this shape, float32 -> the new one, float32."""


@dataclass(frozen=True, eq=False)
class LowRank:
    """Matrices of rank r, whose product is added to a linear layer's weight (out, in) or a kernel (out, in, h, w).

    down: (r, in) or (r, in, h, w). up: (out, r) or (out, r, 1, 1). factor: how often the product counts, alpha / r.
    between: (r, r, h, w), a third one, where LyCORIS took a kernel apart in three (then down is (r, in, 1, 1)).
    magnitude: of DoRA (Liu et al. 2024, arXiv:2402.09353, eq. 5), the length that is given to each row (out, 1, ...) or column
    (1, in, ...) of the sum. Raises ValueError, whose text says what does not fit, if shapes do not go together.
    """

    down: Tensor
    up: Tensor
    factor: float = 1.0
    between: Tensor | None = None
    magnitude: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = [each.shape for each in (self.up, self.between, self.down) if each is not None]
        said = " and ".join(str(tuple(shape)) for shape in shapes)
        if any(len(shape) not in (2, 4) or 0 in shape for shape in shapes) or (
            self.between is not None and self.between.ndim != 4
        ):
            raise ValueError(f"of shapes {said}, which are neither matrices nor kernels")
        if any(left[1] != right[0] for left, right in pairwise(shapes)):
            raise ValueError(f"of shapes {said}, which do not go together")
        if sum(shape[2:].numel() > 1 for shape in shapes) > (self.shape[2:].numel() > 1):
            raise ValueError(f"of shapes {said}, of which another one than usual is the kernel")
        rows, columns, *kernel = self.shape
        lengths = [(rows, 1, *[1] * len(kernel)), (1, columns, *[1] * len(kernel))]
        if self.magnitude is not None and tuple(self.magnitude.shape) not in lengths:
            raise ValueError(f"with magnitudes of shape {tuple(self.magnitude.shape)} for a weight of {tuple(self.shape)}")

    @property
    def shape(self) -> torch.Size:
        kernel = self.down if self.between is None else self.between
        return torch.Size([self.up.shape[0], self.down.shape[1], *kernel.shape[2:]])

    def changed(self, weight: Tensor) -> Tensor:
        down, up = (each.to(weight.device, torch.float32).flatten(1) for each in (self.down, self.up))
        with torch.autocast(weight.device.type, enabled=False):  # in which a model that learns is looked at
            if self.between is None:
                product = up @ down  # (out, in x h x w)
            else:
                between = self.between.to(weight.device, torch.float32)
                product = torch.einsum("op,pqhw,qi->oihw", up, between, down)
        whole = weight + self.factor * product.view(self.shape)
        if self.magnitude is None:
            return whole
        every = tuple(axis for axis, size in enumerate(self.magnitude.shape) if size == 1)
        lengths: Tensor = torch.linalg.vector_norm(whole, dim=every, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
        longer: Tensor = self.magnitude.to(weight.device, torch.float32) / lengths
        return whole * longer


@dataclass(frozen=True, eq=False)
class Difference:
    """What is added, as it is."""

    tensor: Tensor

    @property
    def shape(self) -> torch.Size:
        return self.tensor.shape

    def changed(self, weight: Tensor) -> Tensor:
        return weight + self.tensor.to(weight.device, torch.float32)


@contextmanager
def put_on(pipeline: Any, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The pipeline with an identity's weights added to its own, which come back when the block ends, by whatever way.

    Raises IdentityError if a weight has no place in this pipeline, or a sum is not finite.
    """
    wanted = changes(weights)
    places = _places(pipeline, wanted)
    kept = {name: parameter.data for name, parameter in places.items()}
    try:
        try:
            _change(places, wanted)
        except UnreadableError as problem:
            raise _misfit(f"so much that the model {problem}") from problem
        yield
    finally:
        for name, parameter in places.items():
            parameter.data = kept[name]


def change_weights(pipeline: Any, wanted: Mapping[str, Change]) -> None:
    """Change, for good, the weights that "part.path.weight" names.

    Raises IdentityError, before any is changed, if one has no place, and UnreadableError, in between, if a sum is not finite.
    """
    _change(_places(pipeline, wanted), wanted)


def _places(pipeline: Any, wanted: Mapping[str, Change]) -> dict[str, nn.Parameter]:
    places = {name: place(pipeline, name) for name in wanted}
    for name, parameter in places.items():
        if not fits(wanted[name].shape, parameter.shape):
            shapes = tuple(wanted[name].shape), tuple(parameter.shape)
            raise _misfit(f"{name} of shape {shapes[0]}, where the model's is {shapes[1]}")
    return places


@torch.no_grad()
def _change(places: Mapping[str, nn.Parameter], wanted: Mapping[str, Change]) -> None:
    """One after the other, in float32, rounded once to what a weight is kept in."""
    for name, parameter in places.items():
        weight, change = parameter.data, wanted[name]
        changed = change.changed(weight.float().view(change.shape)).view(weight.shape).to(weight.dtype)
        check_numbers({name: changed})
        parameter.data = changed


def changes(weights: Mapping[str, Tensor]) -> dict[str, Change]:
    """What an identity's weights do to each parameter, by "part.path.weight". Raises IdentityError for other weights."""
    found: dict[str, Change] = {}
    for name, tensor in weights.items():
        if name.partition(".")[0] not in PARTS:
            raise _misfit(name)
        if name.endswith(LOW):
            path = name.removesuffix(LOW)
            if path + HIGH not in weights:
                raise _misfit(f"{name} without {path}{HIGH}")
            try:
                found[f"{path}.weight"] = LowRank(tensor, weights[path + HIGH])
            except ValueError as problem:
                raise _misfit(f"{path} {problem}") from problem
        elif name.endswith(DIFFERENCE):
            found[name.removesuffix(DIFFERENCE)] = Difference(tensor)
        elif not (name.endswith(HIGH) and name.removesuffix(HIGH) + LOW in weights):
            raise _misfit(name)
    return found


def place(pipeline: Any, name: str) -> nn.Parameter:
    """The parameter that "part.path.weight" names. Raises IdentityError if there is none.

    And ModelError if its numbers are elsewhere: accelerate fetches them layer by layer, and would not see what is added.
    """
    part, _, path = name.partition(".")
    module = getattr(pipeline, part, None) if part in PARTS else None
    parameter = None if module is None else installed(module, path)
    if parameter is None:
        raise _misfit(name)
    if parameter.is_meta:
        found, needed = "weights that are fetched layer by layer", "all weights in one place are needed to add to them"
        raise ModelError(found, needed, "Free memory on the GPU, or set TENTH_DEVICE=cpu")
    return parameter


def fits(shape: torch.Size, other: torch.Size) -> bool:
    """Whether two shapes are the same; a linear layer's is that of a 1 x 1 convolution."""
    one, two = (each[:2] if each[2:].numel() == 1 else each for each in (shape, other))
    return one == two


def lora_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank matrices by the names that diffusers' `load_lora_weights` reads. Raises IdentityError for other weights."""
    odd = next((name for name in weights if not name.endswith((LOW, HIGH))), None)
    if odd is not None or not weights:
        raise IdentityError(
            f"{odd} is not a low-rank matrix" if odd else "this identity holds embeddings alone",
            "low-rank matrices are needed for a LoRA file",
            "Make it with dreambooth-lora, or export a whole model",
        )
    return {published(name): tensor.contiguous() for name, tensor in weights.items()}


def kohya_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank matrices by the names that ComfyUI and A1111 read. Raises IdentityError for other weights.

    Source: the keys of kohya-ss's trainer: lora_unet_*, lora_te_* (of two text encoders lora_te1_*, lora_te2_*), each with
    .lora_down.weight, .lora_up.weight and .alpha.
    """
    both = any(name.startswith("text_encoder_2.") for name in weights)
    named: dict[str, Tensor] = {}
    for name, tensor in lora_layout(weights).items():
        key = kohya_name(name.removesuffix(LOW).removesuffix(HIGH), two_text_encoders=both)
        named[f"{key}.lora_down.weight" if name.endswith(LOW) else f"{key}.lora_up.weight"] = tensor
        if name.endswith(LOW):
            named[f"{key}.alpha"] = torch.tensor(float(tensor.shape[0]))
    return named


def _misfit(found: str) -> IdentityError:
    return IdentityError(
        f"this identity holds {found}",
        "weights of the model in use are needed",
        "Make it again from the photos, or choose the model that it was made with",
    )
