"""IP-Adapters of FLUX.1: keys and values in each block with two streams, for the image's stream; their sum follows the block.

Source of the layout: XLabs' files, and how diffusers reads them (loaders/ip_adapter.py, loaders/transformer_flux.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from diffusers.models.transformers.transformer_flux import FluxIPAdapterAttnProcessor
from torch import Tensor, nn

from tenth.models.adapters.networks.adapted_network import AdaptedNetwork, Shapes, build_with

XLABS_PROJECTION = "ip_adapter_proj_model."
XLABS_LAYER = re.compile(r"double_blocks\.(\d+)\.processor\.ip_adapter_double_stream_([kv])_proj\.(weight|bias)")


def official_name(name: str) -> str:
    """XLabs' name of a tensor -> image_proj.* and ip_adapter.<block>.to_{k,v}_ip.*, which diffusers reads as well."""
    if name.startswith(XLABS_PROJECTION):
        return f"image_proj.{name.removeprefix(XLABS_PROJECTION)}"
    if layer := XLABS_LAYER.fullmatch(name):
        return "ip_adapter.{}.to_{}_ip.{}".format(*layer.groups())
    return name


def _token_dim(transformer: Any) -> int:
    return int(transformer.config.joint_attention_dim)  # as the text's


def _layer_shapes(transformer: Any, _: Mapping[str, Tensor]) -> Shapes:
    shapes: Shapes = {}
    for number in range(len(transformer.transformer_blocks)):
        for part in "kv":
            shapes[f"{number}.to_{part}_ip.weight"] = (transformer.inner_dim, _token_dim(transformer))
            shapes[f"{number}.to_{part}_ip.bias"] = (transformer.inner_dim,)
    return shapes


def _build_processors(transformer: Any, layers: Mapping[str, Tensor], num_tokens: int) -> dict[str, nn.Module]:
    sizes = transformer.inner_dim, _token_dim(transformer)
    processors = {}
    for number in range(len(transformer.transformer_blocks)):
        weights = {
            f"to_{part}_ip.0.{leaf}": layers[f"{number}.to_{part}_ip.{leaf}"] for part in "kv" for leaf in ("weight", "bias")
        }
        processor = build_with(weights, FluxIPAdapterAttnProcessor, *sizes, num_tokens=[num_tokens])
        processors[f"transformer_blocks.{number}.attn.processor"] = processor
    return processors


def _layer_weights(transformer: Any) -> dict[str, Tensor]:
    weights = {}
    for number, block in enumerate(transformer.transformer_blocks):
        for name, tensor in block.attn.processor.state_dict().items():
            weights[f"{number}.{name.replace('_ip.0.', '_ip.')}"] = tensor
    return weights


FLUX1 = AdaptedNetwork(
    projection="encoder_hid_proj",
    projection_types=("pooled",),
    token_dim=_token_dim,
    layer_shapes=_layer_shapes,
    build_processors=_build_processors,
    layer_weights=_layer_weights,
    pipeline_embeddings=lambda person, _: person[None],  # (1, M, D)
)


def joint_attention_kwargs(image_embeddings: Tensor | None) -> dict[str, Any] | None:
    """What FluxTransformer2DModel takes for embeddings (B, M, D) of an adapter: B images, each with M photos of its own."""
    return None if image_embeddings is None else {"ip_adapter_image_embeds": [image_embeddings]}
