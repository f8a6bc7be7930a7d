"""What differs between classes of networks, to put an IP-Adapter into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class AdaptedNetwork:
    """A class of networks of diffusers. Tensors are by their names in a file, after "image_proj." and "ip_adapter.".

    projection: attribute of the network in which diffusers has an adapter's projection. projection_types: of
    image_projection.py, which the network can call. token_dim: network -> width of the image tokens.
    layer_shapes: network, tensors of the projection -> shapes of the keys and values.
    build_processors: network, keys and values, tokens of a photo -> attention processors by name, on the CPU.
    layer_weights: network with an adapter -> keys and values.
    pipeline_embeddings: a person's embeddings (M, ...) and unconditional ones -> as diffusers' pipeline takes them; raises
    ValueError, "..., which ...", for what it does not take.
    init_layers: network -> keys and values of a new adapter. None where published ones are trained further.
    """

    projection: str
    projection_types: tuple[str, ...]
    token_dim: Callable[[Any], int]
    layer_shapes: Callable[[Any, Mapping[str, Tensor]], Shapes]
    build_processors: Callable[[Any, Mapping[str, Tensor], int], dict[str, nn.Module]]
    layer_weights: Callable[[Any], dict[str, Tensor]]
    pipeline_embeddings: Callable[[Tensor, Tensor], Tensor]
    init_layers: Callable[[Any], dict[str, Tensor]] | None = None


def build_with(weights: Mapping[str, Tensor], module: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A module with exactly these tensors as its weights: none is made before, and none is copied."""
    with torch.device("meta"):
        built = module(*args, **kwargs)
    built.load_state_dict(dict(weights), assign=True)
    return built


def select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by names that begin with a prefix."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
