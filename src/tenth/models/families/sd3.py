"""Stable Diffusion 3.5 and 3: a transformer that reads a prompt by two encoders of CLIP and by T5, and is guided.

Source of all that is computed here: diffusers 0.42, pipelines/stable_diffusion_3/pipeline_stable_diffusion_3.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tenth.core.types import DefaultSampling
from tenth.models import latents as autoencoder
from tenth.models.adapters.networks.sd3 import joint_attention_kwargs
from tenth.models.denoiser import Conditioning
from tenth.models.families.family import (
    FlowTraining,
    LatentShape,
    TransformerFamily,
    set_flow_timesteps,
    size_shift,
)
from tenth.models.prompt_encoder import PromptEmbeddings

MAX_PROMPT_TOKENS = 256  # of T5; both encoders of CLIP read the first 77
SAMPLING = DefaultSampling(28, 3.5)  # as the model card of SD3.5 Large has it


def latent_shape(pipeline: Any, height: int, width: int) -> LatentShape:
    """(C, h, w) of the autoencoder."""
    scale = int(pipeline.vae_scale_factor)
    return int(pipeline.transformer.config.in_channels), height // scale, width // scale


def encode_prompts(pipeline: Any, prompts: Sequence[str], _: Mapping[str, Tensor]) -> PromptEmbeddings:
    """(U, 77 + 256, C) of CLIP and T5, padding included, and (U, P) of both encoders of CLIP."""
    hidden, _negative, pooled, _negative_pooled = pipeline.encode_prompt(
        list(prompts), None, None, do_classifier_free_guidance=False, max_sequence_length=MAX_PROMPT_TOKENS
    )
    return PromptEmbeddings(hidden, pooled)


def count_tokens(pipeline: Any, prompt: str) -> int:
    """Of T5."""
    return len(pipeline.tokenizer_3(prompt, verbose=False).input_ids)


def predict(transformer: Any, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """The velocity (B, C, h, w)."""
    predicted: Tensor = transformer(
        hidden_states=latents.to(transformer.dtype),
        timestep=timesteps.expand(len(latents)),
        encoder_hidden_states=conditioning.prompts.hidden,
        pooled_projections=conditioning.prompts.pooled,
        joint_attention_kwargs=joint_attention_kwargs(conditioning.image_embeddings),
        return_dict=False,
    )[0]
    return predicted


def encode(pipeline: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, C, h, w)."""
    return autoencoder.encode(pipeline.vae, pixels)


def decode(pipeline: Any, latents: Tensor) -> Tensor:
    """The inverse of `encode`: (B, C, h, w) -> (B, 3, H, W)."""
    return autoencoder.decode(pipeline.vae, latents)


def set_timesteps(scheduler: Any, steps: int, latent_shape: LatentShape, device: torch.device) -> None:
    """As the scheduler has them, with its shift; where that depends on the size, for tokens of two by two latents."""
    set_flow_timesteps(scheduler, steps, device, mu=size_shift(scheduler, latent_shape[1] * latent_shape[2] // 4))


def empty_conditioning(pipeline: Any) -> Conditioning:
    """Of an empty prompt. Raises ValueError if the encoders of CLIP are together wider than T5."""
    clips, t5 = (pipeline.text_encoder.config, pipeline.text_encoder_2.config), pipeline.text_encoder_3.config
    if sum(clip.hidden_size for clip in clips) > t5.d_model:
        raise ValueError(f"text encoders of {clips[0].hidden_size} and {clips[1].hidden_size} numbers, and T5 of {t5.d_model}")
    tokens, device = clips[0].max_position_embeddings + MAX_PROMPT_TOKENS, pipeline.text_encoder_3.device
    hidden = torch.zeros(1, tokens, t5.d_model, device=device)
    pooled = torch.zeros(1, sum(clip.projection_dim for clip in clips), device=device)
    return Conditioning(PromptEmbeddings(hidden, pooled))


SD3 = TransformerFamily(
    name="sd3",
    pipeline_class="StableDiffusion3Pipeline",
    components={
        "transformer": ("SD3Transformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModelWithProjection",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "text_encoder_3": ("T5EncoderModel",),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_3": ("T5TokenizerFast", "T5Tokenizer"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    },
    resolution=1024,
    size_multiple=16,
    max_context_photos=0,
    max_prompt_tokens=MAX_PROMPT_TOKENS,
    default_sampling=lambda _: SAMPLING,
    is_guidance_distilled=lambda _: False,
    latent_shape=latent_shape,
    encode_prompts=encode_prompts,
    count_tokens=count_tokens,
    predict=predict,
    encode=encode,
    decode=decode,
    set_timesteps=set_timesteps,
    empty_conditioning=empty_conditioning,
    token_widths=12.0,
    training=FlowTraining(
        lora_targets=("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
    ),
)
