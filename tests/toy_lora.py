"""What tests of LoRA files share: layers of the tiny models, matrices for them, and what was added to each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.models.adapters.lora_names import PARTS, canonical_name

QUERY = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"  # (16, 16) in the tiny models
CONVOLUTION = "down_blocks.0.resnets.0.conv1"  # (16, 16, 3, 3)
TEXT = "text_model.encoder.layers.1.self_attn.v_proj"
KEY = "lora_unet_" + QUERY.replace(".", "_")
KERNEL = "lora_unet_" + CONVOLUTION.replace(".", "_")
Tensors = dict[str, Tensor]


def layers_of(pipeline: Any) -> Iterator[tuple[str, Tensor]]:
    """Published names and weights of all layers that a LoRA may change."""
    for part in PARTS:
        module = getattr(pipeline, part, None)
        for path, layer in module.named_modules() if module is not None else ():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                yield canonical_name(f"{part}.{path}"), layer.weight.detach()


def all_tensors(pipeline: Any) -> Tensors:
    parts = [(part, getattr(pipeline, part, None)) for part in (*PARTS, "vae")]
    return {
        f"{part}.{name}": value.clone()
        for part, module in parts
        if module is not None
        for name, value in module.state_dict().items()
    }


def merged_delta(down: Tensor, up: Tensor) -> Tensor:
    """As kohya's trainer merges."""
    if down.ndim == 2:
        return up @ down
    return F.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)


def random_matrices(weight: Tensor, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    rows, columns, *kernel = weight.shape
    down = torch.randn(rank, columns, *kernel, generator=generator)
    return down, torch.randn(rows, rank, *[1] * len(kernel), generator=generator) / 10


def assert_added(before: Tensors, pipeline: Any, expected: Tensors) -> None:
    """Each layer has what is wanted of it, all else is as it was to the last bit."""
    after = all_tensors(pipeline)
    ours = {canonical_name(name.removesuffix(".weight")): name for name in after if name.endswith(".weight")}
    assert expected.keys() <= ours.keys()
    changed = {ours[name]: change for name, change in expected.items()}
    for name, value in after.items():
        if name in changed:
            torch.testing.assert_close(
                value - before[name], changed[name], rtol=1e-5, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
            )
        else:
            assert torch.equal(value, before[name]), name


def lora_pair(key: str = KEY, down: Tensor | None = None, up: Tensor | None = None) -> Tensors:
    return {
        f"{key}.lora_down.weight": torch.ones(2, 16) if down is None else down,
        f"{key}.lora_up.weight": torch.ones(16, 2) if up is None else up,
    }
