"""Weights that an identity brings, put on a pipeline's parts and taken off again to the last bit.

Names are "part.path.lora_A.weight" and "....lora_B.weight" for low-rank matrices, whose product is added (the layout that
diffusers' `load_lora_weights` reads, with alpha equal to the rank), and "part.path.weight.diff" for a difference to the base.
Source of low-rank matrices: Hu et al. 2021, arXiv:2106.09685.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tenth.errors import IdentityError

PARTS = ("unet", "text_encoder", "text_encoder_2")
LOW, HIGH, DIFFERENCE = ".lora_A.weight", ".lora_B.weight", ".diff"
KOHYA = {"unet": "lora_unet", "text_encoder": "lora_te", "text_encoder_2": "lora_te2"}


@contextmanager
def put_on(pipeline: Any, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """The pipeline with an identity's weights added to its own, which come back when the block ends, by whatever way.

    Raises IdentityError if a weight has no place in this pipeline.
    """
    added = additions(weights)
    places = {name: place(pipeline, name, addition.shape) for name, addition in added.items()}
    kept = {name: parameter.data for name, parameter in places.items()}
    try:
        for name, parameter in places.items():
            parameter.data = kept[name] + added[name].to(kept[name])
        yield
    finally:
        for name, parameter in places.items():
            parameter.data = kept[name]


def additions(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is added to each parameter, by "part.path.weight", float32. Raises IdentityError as `check_weights`."""
    check_weights(weights)
    added = {}
    for name, tensor in weights.items():
        if name.endswith(LOW):
            path = name.removesuffix(LOW)
            product = weights[path + HIGH].float().flatten(1) @ tensor.float().flatten(1)  # (out, in x kernel)
            added[f"{path}.weight"] = product.view(len(product), *tensor.shape[1:])
        elif name.endswith(DIFFERENCE):
            added[name.removesuffix(DIFFERENCE)] = tensor.float()
    return added


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Raises IdentityError unless each weight is of a known part and kind, and low-rank matrices come in pairs that fit."""
    for name, tensor in weights.items():
        path = name.removesuffix(LOW).removesuffix(HIGH)
        if name.partition(".")[0] not in PARTS or not name.endswith((LOW, HIGH, DIFFERENCE)):
            raise _misfit(name)
        if name.endswith(DIFFERENCE):
            continue
        low, high = weights.get(path + LOW), weights.get(path + HIGH)
        if low is None or high is None:
            raise _misfit(f"{name} without {path}{HIGH if high is None else LOW}")
        if min(low.ndim, high.ndim) < 2 or low.shape[0] != high.shape[1] or high.shape[2:].numel() != 1:
            raise _misfit(f"{name} of shape {tuple(tensor.shape)}, which its other half does not fit")


def place(pipeline: Any, name: str, shape: torch.Size) -> nn.Parameter:
    """The parameter that "part.path.weight" names. Raises IdentityError if there is none, or it is of another shape."""
    part, _, path = name.partition(".")
    module = getattr(pipeline, part, None) if part in PARTS else None
    try:
        parameter: nn.Parameter = module.get_parameter(path)  # type: ignore[union-attr]
    except AttributeError:
        raise _misfit(name) from None
    if parameter.shape != shape:
        raise _misfit(f"{name} of shape {tuple(shape)}, where the model's is {tuple(parameter.shape)}")
    return parameter


def lora_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank matrices by the names that diffusers' `load_lora_weights` reads. Raises IdentityError for other weights."""
    odd = next((name for name in weights if not name.endswith((LOW, HIGH))), None)
    if odd is not None or not weights:
        raise IdentityError(
            f"{odd} is not a low-rank matrix" if odd else "this identity holds embeddings alone",
            "low-rank matrices are needed for a LoRA file",
            "Make it with dreambooth-lora, or export a whole model",
        )
    return {name: tensor.contiguous() for name, tensor in weights.items()}


def kohya_layout(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Low-rank matrices by the names that ComfyUI and A1111 read. Raises IdentityError for other weights.

    Source: the keys of kohya-ss's trainer: lora_unet_*, lora_te_* (of two text encoders lora_te1_*, lora_te2_*), each with
    .lora_down.weight, .lora_up.weight and .alpha.
    """
    both = any(name.startswith("text_encoder_2.") for name in weights)
    named: dict[str, Tensor] = {}
    for name, tensor in lora_layout(weights).items():
        part, _, path = name.removesuffix(LOW).removesuffix(HIGH).partition(".")
        prefix = "lora_te1" if both and part == "text_encoder" else KOHYA[part]
        key = f"{prefix}_{path.replace('.', '_')}"
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
