"""Toy transformers in folders of diffusers' layout, of each family: tiny random weights, and a tokenizer of single bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from PIL import Image
from transformers import Qwen3Config, Qwen3ForCausalLM

from tenth.core.types import Pixels
from tenth.models.families.flow_model import FlowModel
from tenth.models.families.loader import family_in, load_flow_model
from tenth.models.families.qwen_image_edit import QWEN_IMAGE_EDIT, encode_photos
from toy_qwen_families import SIDE, TOY_AREA, qwen_image_edit, qwen_tokenizer, z_image, z_image_omni
from toy_t5_families import flux1, sd3


def toy_family(name: str, folder: Path, **settings: Any) -> Path:
    """A toy of the family, written into a folder. settings: of its pipeline, such as `is_distilled`."""
    torch.manual_seed(0)
    pipeline = MAKERS[name](**settings)
    with torch.no_grad():
        for parameter in pipeline.transformer.parameters():
            if parameter.ndim == 2:  # so that an image shows what it is conditioned on
                parameter.mul_(3)
    pipeline.save_pretrained(folder)
    return folder


def load_toy(folder: Path) -> FlowModel:
    """The toy in a folder, of which nothing is large: neither its default image nor its photos."""
    family = family_in(folder)
    assert family is not None
    smaller: dict[str, Any] = {"resolution": SIDE}
    if family is QWEN_IMAGE_EDIT:
        smaller["encode_photos"] = partial(encode_photos, area=TOY_AREA)
    return load_flow_model(folder, family=replace(family, **smaller))


def toy_photo(width: int, height: int, seed: int = 0) -> Pixels:
    """A photo of nobody: smooth noise (H, W, 3)."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR))


def flux2_klein(*, is_distilled: bool = True, num_hidden_layers: int = 27) -> Flux2KleinPipeline:
    """FLUX.2 klein: a text encoder of 27 layers, as many as are read."""
    tokenizer = qwen_tokenizer()
    text = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=3 * 16,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 8, 8),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=SIDE,
    )
    vae.bn.running_mean.normal_()
    vae.bn.running_var.uniform_(0.5, 2)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)
    return Flux2KleinPipeline(scheduler, vae, Qwen3ForCausalLM(text), tokenizer, transformer, is_distilled=is_distilled)


MAKERS: dict[str, Callable[..., Any]] = {
    "flux1": flux1,
    "flux2-klein": flux2_klein,
    "qwen-image-edit": qwen_image_edit,
    "sd3": sd3,
    "z-image": z_image,
    "z-image-omni": z_image_omni,
}
