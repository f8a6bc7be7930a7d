"""IP-Adapters of the published sizes fit UNets of the published sizes, without memory for either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from tenth.adapter import check_adapter
from tenth.errors import ModelError
from toy_adapters import PUBLISHED_PLUS, full, layers_of, plus, pooled


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


class Encoder:
    """The sizes of a published image encoder."""

    name = "clip@0"

    def __init__(self, width: int, tokens: int) -> None:
        self.width, self.tokens = width, tokens


@pytest.mark.parametrize(("family", "layers", "last"), [("sd15", 16, 31), ("sdxl", 70, 139)])
def test_the_published_sizes_fit(family: str, layers: int, last: int, tmp_path: Path) -> None:
    unet = published_unet(family)
    keys = layers_of(unet)
    assert len(keys) == 2 * layers
    assert f"{last}.to_v_ip.weight" in keys
    cross = unet.config.cross_attention_dim
    pooled_encoders = [Encoder(1024, 0)] + [Encoder(1280, 0)] * (family == "sdxl")  # ViT-H, bigG
    cases = [(pooled(each.width, cross), each) for each in pooled_encoders]
    cases += [(plus(1280, cross, PUBLISHED_PLUS[family]), Encoder(1280, 257)), (full(1280, cross), Encoder(1280, 257))]
    with torch.device("meta"):
        for projection, encoder in cases:
            parts = {
                "image_proj": {name: torch.empty(shape) for name, shape in projection.items()},
                "ip_adapter": {name: torch.empty(shape) for name, shape in keys.items()},
            }
            check_adapter(unet, parts, encoder, tmp_path)  # type: ignore[arg-type]
            with pytest.raises(ModelError, match="patch tokens"):
                check_adapter(unet, parts, Encoder(encoder.width, 257 - encoder.tokens), tmp_path)  # type: ignore[arg-type]
            with pytest.raises(ModelError, match=f"reads {encoder.width} numbers, where the image encoder gives 1664"):
                check_adapter(unet, parts, Encoder(1664, encoder.tokens), tmp_path)  # type: ignore[arg-type]
