"""FLUX.1 dev and schnell: a transformer that reads a prompt by T5, and its summary by CLIP. Its IP-Adapters are published.

Source of all that is computed here: diffusers 0.42, pipelines/flux/pipeline_flux.py, whose images these are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tenth.core.types import DefaultSampling
from tenth.models import latents as autoencoder
from tenth.models.adapters.networks.flux1 import joint_attention_kwargs
from tenth.models.denoiser import Conditioning
from tenth.models.families.family import (
    FlowTraining,
    LatentShape,
    TransformerFamily,
    set_flow_timesteps,
    size_shift,
)
from tenth.models.prompt_encoder import PromptEmbeddings

PATCH = 2  # of latents along one side, which make a token of the transformer
MAX_PROMPT_TOKENS = 512  # of T5; CLIP reads the first 77
DEV_SAMPLING, SCHNELL_SAMPLING = DefaultSampling(28, 3.5), DefaultSampling(4, 1.0)  # as the model cards have them


def default_sampling(pipeline: Any) -> DefaultSampling:
    """Of dev, which has a layer for the guidance scale, and of schnell, which has none."""
    return DEV_SAMPLING if pipeline.transformer.config.guidance_embeds else SCHNELL_SAMPLING


def latent_shape(pipeline: Any, height: int, width: int) -> LatentShape:
    """(C, h, w) of the autoencoder, whose sides are even."""
    multiple = int(pipeline.vae_scale_factor) * PATCH
    return int(pipeline.transformer.config.in_channels) // PATCH**2, height // multiple * PATCH, width // multiple * PATCH


def encode_prompts(pipeline: Any, prompts: Sequence[str], _: Mapping[str, Tensor]) -> PromptEmbeddings:
    """(U, 512, C) of T5, padding included, and (U, P) of CLIP."""
    hidden, pooled, _positions = pipeline.encode_prompt(list(prompts), max_sequence_length=MAX_PROMPT_TOKENS)
    return PromptEmbeddings(hidden, pooled)


def count_tokens(pipeline: Any, prompt: str) -> int:
    """Of T5."""
    return len(pipeline.tokenizer_2(prompt, verbose=False).input_ids)


def predict(transformer: Any, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """The velocity (B, C, h, w). Two by two latents are a token, at its row and column."""
    patches = functional.pixel_unshuffle(latents, PATCH)  # (B, 4 C, h / 2, w / 2)
    height, width = patches.shape[-2:]
    prompts = conditioning.prompts
    axes = [torch.zeros(1), torch.arange(height).float(), torch.arange(width).float()]
    predicted: Tensor = transformer(
        hidden_states=patches.flatten(2).transpose(1, 2).to(transformer.dtype),
        timestep=timesteps.expand(len(latents)).to(latents.dtype) / 1000,
        guidance=conditioning.guidance,
        pooled_projections=prompts.pooled,
        encoder_hidden_states=prompts.hidden,
        txt_ids=torch.zeros(prompts.hidden.shape[1], 3, device=latents.device),
        img_ids=torch.cartesian_prod(*axes).to(latents.device),
        joint_attention_kwargs=joint_attention_kwargs(conditioning.image_embeddings),
        return_dict=False,
    )[0]
    return functional.pixel_shuffle(predicted.transpose(1, 2).unflatten(2, (height, width)), PATCH)


def encode(pipeline: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, C, h, w)."""
    return autoencoder.encode(pipeline.vae, pixels)


def decode(pipeline: Any, latents: Tensor) -> Tensor:
    """The inverse of `encode`: (B, C, h, w) -> (B, 3, H, W)."""
    return autoencoder.decode(pipeline.vae, latents)


def set_timesteps(scheduler: Any, steps: int, latent_shape: LatentShape, device: torch.device) -> None:
    """Evenly from all noise; of dev shifted towards noise the more, the larger the image."""
    mu = size_shift(scheduler, latent_shape[1] * latent_shape[2] // PATCH**2)
    set_flow_timesteps(scheduler, steps, device, mu=mu, sigmas=np.linspace(1.0, 1 / steps, steps).tolist())


def empty_conditioning(pipeline: Any) -> Conditioning:
    """Of an empty prompt."""
    device = pipeline.text_encoder_2.device
    hidden = torch.zeros(1, MAX_PROMPT_TOKENS, pipeline.text_encoder_2.config.d_model, device=device)
    pooled = torch.zeros(1, pipeline.text_encoder.config.hidden_size, device=device)
    guidance = torch.zeros(1, device=device) if pipeline.transformer.config.guidance_embeds else None
    return Conditioning(PromptEmbeddings(hidden, pooled), guidance=guidance)


FLUX1 = TransformerFamily(
    name="flux1",
    pipeline_class="FluxPipeline",
    components={
        "transformer": ("FluxTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("T5EncoderModel",),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("T5TokenizerFast", "T5Tokenizer"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    },
    resolution=1024,
    size_multiple=16,
    max_context_photos=0,
    max_prompt_tokens=MAX_PROMPT_TOKENS,
    default_sampling=default_sampling,
    is_guidance_distilled=lambda _: True,
    latent_shape=latent_shape,
    encode_prompts=encode_prompts,
    count_tokens=count_tokens,
    predict=predict,
    encode=encode,
    decode=decode,
    set_timesteps=set_timesteps,
    empty_conditioning=empty_conditioning,
    token_widths=16.0,
    training=FlowTraining(
        guidance=1.0,
        lora_targets=("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    ),
)
