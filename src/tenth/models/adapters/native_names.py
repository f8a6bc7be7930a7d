"""What the authors of transformers call their layers: LoRA files of kohya's trainer, and of others that ComfyUI reads, do too.

One layer of theirs may be several in diffusers, whose rows follow one another.
Sources: ComfyUI, comfy/utils.py (flux_to_diffusers, z_image_to_diffusers, mmdit_to_diffusers) and comfy/lora.py; diffusers,
loaders/lora_conversion_utils.py, for what FLUX.2 has outside its blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

Layers = Mapping[str, tuple[str, ...]]  # the authors' name -> diffusers' names


@dataclass(frozen=True)
class Blocks:
    """Blocks that are alike, and counted. native, diffusers: the beginnings of their layers' names; layers: what follows."""

    native: str
    diffusers: str
    layers: Layers


@dataclass(frozen=True)
class Architecture:
    """The layers of one class of transformers, as far as the authors' names are others. single: those outside blocks."""

    blocks: tuple[Blocks, ...]
    single: Mapping[str, str] = field(default_factory=dict)


class NativeLayer(NamedTuple):
    """A layer of the authors' and the layers of diffusers, in this order, of which it is made."""

    name: str
    parts: tuple[str, ...]


# fmt: off
ATTENTION: dict[str, tuple[str, ...]] = {
    "img_attn.qkv":  ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.qkv":  ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
}
FLUX_SINGLE = {
    "img_in":            "x_embedder",
    "txt_in":            "context_embedder",
    "final_layer.linear": "proj_out",
}
FLUX = Architecture(
    (
        Blocks("double_blocks", "transformer_blocks", {
            **ATTENTION,
            "img_mlp.0":   ("ff.net.0.proj",),          "img_mlp.2":   ("ff.net.2",),
            "txt_mlp.0":   ("ff_context.net.0.proj",),  "txt_mlp.2":   ("ff_context.net.2",),
            "img_mod.lin": ("norm1.linear",),           "txt_mod.lin": ("norm1_context.linear",),
        }),
        Blocks("single_blocks", "single_transformer_blocks", {
            "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
            "linear2": ("proj_out",),  "modulation.lin": ("norm.linear",),
        }),
    ),
    FLUX_SINGLE | {
        f"{native}_in.{side}_layer": f"time_text_embed.{name}_embedder.linear_{number}"
        for native, name in (("time", "timestep"), ("vector", "text"), ("guidance", "guidance"))
        for number, side in ((1, "in"), (2, "out"))
    },
)
FLUX2 = Architecture(
    (
        Blocks("double_blocks", "transformer_blocks", {
            **ATTENTION,
            "img_mlp.0": ("ff.linear_in",),          "img_mlp.2": ("ff.linear_out",),
            "txt_mlp.0": ("ff_context.linear_in",),  "txt_mlp.2": ("ff_context.linear_out",),
        }),
        Blocks("single_blocks", "single_transformer_blocks", {
            "linear1": ("attn.to_qkv_mlp_proj",),  "linear2": ("attn.to_out",),
        }),
    ),
    FLUX_SINGLE | {
        f"{native}_in.{side}_layer": f"time_guidance_embed.{name}_embedder.linear_{number}"
        for native, name in (("time", "timestep"), ("guidance", "guidance"))
        for number, side in ((1, "in"), (2, "out"))
    } | {
        f"{name}.lin": f"{name}.linear"
        for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation")
    },
)
SD3 = Architecture((
    Blocks("joint_blocks", "transformer_blocks", {
        "x_block.attn.qkv":        ("attn.to_q", "attn.to_k", "attn.to_v"),
        "x_block.attn.proj":       ("attn.to_out.0",),
        "x_block.attn2.qkv":       ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
        "x_block.attn2.proj":      ("attn2.to_out.0",),
        "context_block.attn.qkv":  ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "context_block.attn.proj": ("attn.to_add_out",),
        "x_block.mlp.fc1":         ("ff.net.0.proj",),  "context_block.mlp.fc1": ("ff_context.net.0.proj",),
        "x_block.mlp.fc2":         ("ff.net.2",),       "context_block.mlp.fc2": ("ff_context.net.2",),
    }),
))
Z_IMAGE = Architecture(
    tuple(
        Blocks(name, name, {
            "attention.qkv": ("attention.to_q", "attention.to_k", "attention.to_v"),
            "attention.out": ("attention.to_out.0",),
            **{same: (same,) for same in (*(f"feed_forward.w{number}" for number in (1, 2, 3)), "adaLN_modulation.0")},
        })
        for name in ("layers", "context_refiner", "noise_refiner")
    ),
    {"x_embedder": "all_x_embedder.2-1", "final_layer.linear": "all_final_layer.2-1.linear"},
)
# Qwen-Image's are those of diffusers.
QWEN_IMAGE = Architecture((
    Blocks("transformer_blocks", "transformer_blocks", {
        same: (same,)
        for same in (
            *(name for names in ATTENTION.values() for name in names),
            *(f"{side}_{end}" for side in ("img", "txt") for end in ("mlp.net.0.proj", "mlp.net.2", "mod.1")),
        )
    }),
))
# fmt: on
ARCHITECTURES = {  # by the class of the transformer
    "FluxTransformer2DModel": FLUX,
    "Flux2Transformer2DModel": FLUX2,
    "SD3Transformer2DModel": SD3,
    "ZImageTransformer2DModel": Z_IMAGE,
    "QwenImageTransformer2DModel": QWEN_IMAGE,
}


def native_layer(architecture: Architecture, path: str) -> NativeLayer | None:
    """The authors' layer of which the layer of this path in diffusers is all or a part; None where none is known."""
    for native, other in architecture.single.items():
        if other == path:
            return NativeLayer(native, (path,))
    for blocks in architecture.blocks:
        match = re.fullmatch(rf"{blocks.diffusers}\.(\d+)\.(.+)", path)
        for native, parts in blocks.layers.items() if match else ():
            if match is not None and match[2] in parts:
                names = tuple(f"{blocks.diffusers}.{match[1]}.{part}" for part in parts)
                return NativeLayer(f"{blocks.native}.{match[1]}.{native}", names)
    return None
