"""Image encoders with tiny random weights, as folders in which an adapter looks for its own."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

SIZES = {"hidden_size": 20, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


def write_clip(folder: Path, projection_dim: int = 24) -> Path:
    torch.manual_seed(1)
    config = CLIPVisionConfig(**SIZES, projection_dim=projection_dim, patch_size=56, image_size=224)
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    return folder


def write_siglip(folder: Path) -> Path:
    """Of nine patches, with its processor's file."""
    torch.manual_seed(1)
    SiglipVisionModel(SiglipVisionConfig(**SIZES, patch_size=16, image_size=48)).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 48, "width": 48}).save_pretrained(folder)
    return folder
