"""IP-Adapters with random weights in every published layout, for a UNet of any size. Nothing here is read from tenth."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

HEAD_DIM = 64  # of the published resamplers
# The sizes of the published files, by family: hidden width, heads, tokens, layers of Plus.
PUBLISHED_PLUS = {"sd15": (768, 12, 16, 4), "sdxl": (1280, 20, 16, 4)}
TOY_PLUS = {"sd15": (16, 2, 16, 4), "sdxl": (24, 1, 16, 4)}

Shapes = dict[str, tuple[int, ...]]


def pooled_projection(width: int, cross_attention_dim: int, tokens: int = 4) -> Shapes:
    """Of ip-adapter_sd15, ip-adapter_sdxl and ip-adapter_sdxl_vit-h."""
    return {
        "proj.weight": (tokens * cross_attention_dim, width),
        "proj.bias": (tokens * cross_attention_dim,),
        "norm.weight": (cross_attention_dim,),
        "norm.bias": (cross_attention_dim,),
    }


def plus_projection(width: int, cross_attention_dim: int, sizes: tuple[int, int, int, int]) -> Shapes:
    """Of ip-adapter-plus and ip-adapter-plus-face, sd15 and sdxl_vit-h."""
    hidden, heads, tokens, layers = sizes
    shapes: Shapes = {
        "latents": (1, tokens, hidden),
        "proj_in.weight": (hidden, width),
        "proj_in.bias": (hidden,),
        "proj_out.weight": (cross_attention_dim, hidden),
        "proj_out.bias": (cross_attention_dim,),
        "norm_out.weight": (cross_attention_dim,),
        "norm_out.bias": (cross_attention_dim,),
    }
    for layer in range(layers):
        inside = {
            **{f"0.norm{n}.{leaf}": (hidden,) for n in (1, 2) for leaf in ("weight", "bias")},
            "0.to_q.weight": (heads * HEAD_DIM, hidden),
            "0.to_kv.weight": (2 * heads * HEAD_DIM, hidden),
            "0.to_out.weight": (hidden, heads * HEAD_DIM),
            "1.0.weight": (hidden,),
            "1.0.bias": (hidden,),
            "1.1.weight": (4 * hidden, hidden),
            "1.3.weight": (hidden, 4 * hidden),
        }
        shapes |= {f"layers.{layer}.{name}": shape for name, shape in inside.items()}
    return shapes


def full_projection(width: int, cross_attention_dim: int) -> Shapes:
    """Of ip-adapter-full-face_sd15."""
    return {
        "proj.0.weight": (width, width),
        "proj.0.bias": (width,),
        "proj.2.weight": (cross_attention_dim, width),
        "proj.2.bias": (cross_attention_dim,),
        "proj.3.weight": (cross_attention_dim,),
        "proj.3.bias": (cross_attention_dim,),
    }


def cross_attention_shapes(unet: Any) -> Shapes:
    """Keys and values of each cross-attention: down, up, mid last."""
    shapes: Shapes = {}
    blocks = [*unet.down_blocks, *unet.up_blocks, unet.mid_block]
    attentions = [m for block in blocks for name, m in block.named_modules() if name.endswith("attn2")]
    for number, attention in enumerate(attentions):
        for part in "kv":
            shapes[f"{2 * number + 1}.to_{part}_ip.weight"] = tuple(getattr(attention, f"to_{part}").weight.shape)
    return shapes


def random_adapter(projection: Shapes, layers: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """A flat file's tensors: strong enough that an adapter is seen in an image of random weights."""
    named = {f"image_proj.{name}": shape for name, shape in projection.items()}
    return _random(named | {f"ip_adapter.{name}": shape for name, shape in layers.items()}, seed)


def toy_adapters(unet: Any, family: str, pooled_width: int, patch_width: int) -> dict[str, dict[str, Tensor]]:
    """One of each kind, by name."""
    cross, layers = int(unet.config.cross_attention_dim), cross_attention_shapes(unet)
    kinds = {
        "ip-adapter": pooled_projection(pooled_width, cross),
        "seven-tokens": pooled_projection(pooled_width, cross, 7),
        "ip-adapter-plus": plus_projection(patch_width, cross, TOY_PLUS[family]),
        "ip-adapter-full": full_projection(patch_width, cross),
    }
    return {name: random_adapter(projection, layers) for name, projection in kinds.items()}


def xlabs_adapter(transformer: Any, width: int, tokens: int = 4) -> dict[str, Tensor]:
    """Of FLUX.1's flux-ip-adapter, by XLabs' names; version 2 has 16 tokens."""
    dim, text_dim = transformer.inner_dim, transformer.config.joint_attention_dim
    shapes = {f"ip_adapter_proj_model.{name}": shape for name, shape in pooled_projection(width, text_dim, tokens).items()}
    for number in range(transformer.config.num_layers):
        for part in "kv":
            layer = f"double_blocks.{number}.processor.ip_adapter_double_stream_{part}_proj"
            shapes |= {f"{layer}.weight": (dim, text_dim), f"{layer}.bias": (dim,)}
    return _random(shapes)


def instantx_adapter(transformer: Any, width: int, tokens: int = 6, hidden: int = 64) -> dict[str, Tensor]:
    """Of SD3.5-Large-IP-Adapter: a resampler that reads the timestep, with as many layers as diffusers expects."""
    dim, head_dim = transformer.inner_dim, transformer.config.attention_head_dim
    projection = plus_projection(width, dim, (hidden, 1, tokens, 4))
    for layer in range(4):
        projection |= {f"layers.{layer}.2.1.weight": (4 * hidden, hidden), f"layers.{layer}.2.1.bias": (4 * hidden,)}
    projection |= {"time_embedding.linear_1.weight": (hidden, 32), "time_embedding.linear_1.bias": (hidden,)}
    projection |= {"time_embedding.linear_2.weight": (hidden, hidden), "time_embedding.linear_2.bias": (hidden,)}
    layers: Shapes = {}
    for number in range(transformer.config.num_layers + len(transformer.config.dual_attention_layers)):
        layer = {f"to_{part}_ip.weight": (dim, dim) for part in "kv"}
        layer |= {"norm_ip.linear.weight": (2 * dim, hidden), "norm_ip.linear.bias": (2 * dim,)}
        layer |= {f"{norm}.weight": (head_dim,) for norm in ("norm_q", "norm_k", "norm_ip_k")}
        layers |= {f"{number}.{name}": shape for name, shape in layer.items()}
    return random_adapter(projection, layers)


def _random(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: 0.5 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
