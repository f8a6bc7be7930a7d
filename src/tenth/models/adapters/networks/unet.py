"""IP-Adapters of UNets: keys and values beside those of each cross-attention with the text.

Source of the layout: the weights of Ye et al. 2023, arXiv:2308.06721: ip_adapter.<odd>.to_{k,v}_ip.weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tenth.models.adapters.networks.adapted_network import AdaptedNetwork, Shapes
from tenth.models.adapters.regional_attention import RegionalIPAdapterAttnProcessor


def cross_attention_layers(unet: Any) -> list[tuple[int, str, Any]]:
    """(number in the official layout, processor's name, attention module) of each cross-attention: down, up, mid last."""
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    return [(2 * i + 1, name, unet.get_submodule(name.removesuffix(".processor"))) for i, name in enumerate(names)]


def _layer_shapes(unet: Any, _: Mapping[str, Tensor]) -> Shapes:
    return {name: tuple(weight.shape) for name, weight in _text_layers(unet).items()}


def _text_layers(unet: Any) -> dict[str, Tensor]:
    """The text's keys and values, by the names that an adapter's have."""
    layers = cross_attention_layers(unet)
    return {
        f"{number}.to_{part}_ip.weight": getattr(layer, f"to_{part}").weight for number, _, layer in layers for part in "kv"
    }


def _build_processors(unet: Any, layers: Mapping[str, Tensor], num_tokens: int) -> dict[str, nn.Module]:
    processors: dict[str, nn.Module] = {}
    for number, name, attention in cross_attention_layers(unet):
        processors[name] = RegionalIPAdapterAttnProcessor(*attention.to_k.weight.shape, num_tokens=[num_tokens])
        weights = {f"to_{part}_ip.0.weight": layers[f"{number}.to_{part}_ip.weight"] for part in "kv"}
        processors[name].load_state_dict(weights, assign=True)
    return processors


def _layer_weights(unet: Any) -> dict[str, Tensor]:
    return {
        f"{number}.to_{part}_ip.weight": getattr(unet.attn_processors[name], f"to_{part}_ip")[0].weight
        for number, name, _ in cross_attention_layers(unet)
        for part in "kv"
    }


def _init_layers(unet: Any) -> dict[str, Tensor]:
    """Copies of the text's, as the official script begins."""
    return {name: weight.detach().clone() for name, weight in _text_layers(unet).items()}


UNET = AdaptedNetwork(
    projection="encoder_hid_proj",
    projection_types=("pooled", "plus", "full"),
    token_dim=lambda unet: int(unet.config.cross_attention_dim),
    layer_shapes=_layer_shapes,
    build_processors=_build_processors,
    layer_weights=_layer_weights,
    pipeline_embeddings=lambda person, nobody: torch.stack([nobody, person]),  # (2, M, ...), with guidance
    init_layers=_init_layers,
)
