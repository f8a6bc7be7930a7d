"""Adapters of the published sizes, without their memory: what fits which model and image encoder, and what is refused."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

from tenth.core.errors import ModelError
from tenth.models.adapters.ip_adapter import load_ip_adapter, uses_patch_tokens, validate_ip_adapter
from tenth.models.pipelines import load_pipeline
from toy_adapters import (
    PUBLISHED_PLUS,
    cross_attention_shapes,
    full_projection,
    plus_projection,
    pooled_projection,
    random_adapter,
)


def published_unet(family: str) -> UNet2DConditionModel:
    """Of the published sizes, without memory."""
    sizes: dict[str, Any] = {"cross_attention_dim": 768}
    if family == "sdxl":
        sizes = {
            "cross_attention_dim": 2048,
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        }
    with torch.device("meta"):
        return UNet2DConditionModel(**sizes)


# Of the published files, in bytes, as the Git LFS pointers to them say.
SIZES = {
    ("sd15", "plus"): 98_183_288,  # ip-adapter-plus_sd15, ip-adapter-plus-face_sd15
    ("sd15", "full"): 43_592_352,  # ip-adapter-full-face_sd15
    ("sd15", "bigG"): 46_215_640,  # ip-adapter_sd15_vit-G
    ("sdxl", "plus"): 847_517_512,  # ip-adapter-plus_sdxl_vit-h, ip-adapter-plus-face_sdxl_vit-h
    ("sdxl", "vit-h"): 698_391_064,  # ip-adapter_sdxl_vit-h
}


def size_of(shapes: dict[str, tuple[int, ...]]) -> int:
    """Bytes of a safetensors file in half precision: the length, a header in eights, the values."""
    header, end = {}, 0
    for name, shape in sorted(shapes.items()):
        start, end = end, end + 2 * prod(shape)
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + end


@pytest.mark.parametrize(("family", "kind"), SIZES)
def test_the_layouts_are_those_of_the_published_files_to_the_byte(family: str, kind: str) -> None:
    unet = published_unet(family)
    cross = unet.config.cross_attention_dim
    kinds = {
        "plus": plus_projection(1280, cross, PUBLISHED_PLUS[family]),
        "full": full_projection(1280, cross),
        "bigG": pooled_projection(1280, cross),
        "vit-h": pooled_projection(1024, cross),
    }
    named = {f"image_proj.{name}": shape for name, shape in kinds[kind].items()}
    named |= {f"ip_adapter.{name}": shape for name, shape in cross_attention_shapes(unet).items()}
    assert size_of(named) == SIZES[family, kind]


class Encoder:
    """The sizes of a published image encoder."""

    name = "clip@0"

    def __init__(self, width: int, tokens: int) -> None:
        self.embedding_dim, self.num_tokens = width, tokens


@pytest.mark.parametrize(("family", "layers", "last"), [("sd15", 16, 31), ("sdxl", 70, 139)])
def test_the_published_sizes_fit(family: str, layers: int, last: int, tmp_path: Path) -> None:
    unet = published_unet(family)
    keys = cross_attention_shapes(unet)
    assert len(keys) == 2 * layers
    assert f"{last}.to_v_ip.weight" in keys
    cross = unet.config.cross_attention_dim
    pooled_encoders = [Encoder(1024, 0)] + [Encoder(1280, 0)] * (family == "sdxl")  # ViT-H, bigG
    cases = [(pooled_projection(each.embedding_dim, cross), each) for each in pooled_encoders]
    cases += [
        (plus_projection(1280, cross, PUBLISHED_PLUS[family]), Encoder(1280, 257)),
        (full_projection(1280, cross), Encoder(1280, 257)),
    ]
    with torch.device("meta"):
        for projection, encoder in cases:
            parts = {
                "image_proj": {name: torch.empty(shape) for name, shape in projection.items()},
                "ip_adapter": {name: torch.empty(shape) for name, shape in keys.items()},
            }
            validate_ip_adapter(unet, parts, encoder, tmp_path)  # type: ignore[arg-type]
            with pytest.raises(ModelError, match="patch tokens"):
                validate_ip_adapter(unet, parts, Encoder(encoder.embedding_dim, 257 - encoder.num_tokens), tmp_path)  # type: ignore[arg-type]
            with pytest.raises(ModelError, match=f"reads {encoder.embedding_dim} numbers, where the image encoder gives 1664"):
                validate_ip_adapter(unet, parts, Encoder(1664, encoder.num_tokens), tmp_path)  # type: ignore[arg-type]


def test_faceid_adapters_are_refused_by_name(stable_folder: Path, tmp_path: Path) -> None:
    layers = cross_attention_shapes(load_pipeline(stable_folder).unet)
    for projection in (
        {"proj.0.weight": (8, 4), "proj.0.bias": (8,), "proj.2.weight": (16, 8), "norm.weight": (4,)},
        {"perceiver_resampler.proj_in.weight": (8, 4), "proj.0.weight": (8, 4)},
    ):
        save_file(random_adapter(projection, layers), tmp_path / "faceid.safetensors")
        with pytest.raises(ModelError, match="FaceID adapter"):
            uses_patch_tokens(tmp_path / "faceid.safetensors")
        with pytest.raises(ModelError, match="FaceID adapter"):
            load_ip_adapter(tmp_path / "faceid.safetensors")
