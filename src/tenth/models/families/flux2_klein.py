"""FLUX.2 klein: a small transformer that reads a prompt by Qwen3, and up to four photos beside it.

Source of all that is computed here: diffusers 0.42, pipelines/flux2/pipeline_flux2_klein.py, whose images these are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import DefaultSampling, Pixels
from tenth.models.adapters.networks.flux2 import joint_attention_kwargs
from tenth.models.denoiser import Conditioning
from tenth.models.families.family import (
    FlowTraining,
    LatentShape,
    TransformerFamily,
    check_context_shapes,
    of_each_photo,
    set_flow_timesteps,
)
from tenth.models.families.photos import crop_to_multiple, reduce_to, to_pixels
from tenth.models.latents import decode_unscaled, encode_unscaled
from tenth.models.prompt_encoder import PromptEmbeddings

PATCH = 2  # of the autoencoder's latents along one side, which make one of the transformer's
READ_LAYERS = (9, 18, 27)  # of the text encoder, whose hidden states are the prompt's embedding
MAX_PROMPT_TOKENS = 512
MAX_PHOTOS = 4
CONTEXT_STEP = 10  # between photos, on the axis of positions that is time's in a film
# What Qwen3 reads around a prompt, as its own template writes it for one message without thinking.
CHAT_TEMPLATE = (
    "{{ '<|im_start|>user\\n' + messages[0].content + '<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}"
)
MESSAGE_TOKENS = 11  # of these
DISTILLED_SAMPLING = DefaultSampling(4, 1.0, guidance_rescale=0.0)
SAMPLING = DefaultSampling(50, 4.0, guidance_rescale=0.0)  # as the model cards have them


def default_sampling(pipeline: Any) -> DefaultSampling:
    """Four steps of the distilled model; fifty, guided, of the base model."""
    return DISTILLED_SAMPLING if is_guidance_distilled(pipeline) else SAMPLING


def is_guidance_distilled(pipeline: Any) -> bool:
    """Whether the index says so; the weights do not."""
    return bool(pipeline.config.is_distilled)


def latent_shape(pipeline: Any, height: int, width: int) -> LatentShape:
    """(C, h, w): one for each 16 x 16 pixels."""
    scale = int(pipeline.vae_scale_factor) * PATCH
    return int(pipeline.transformer.config.in_channels), height // scale, width // scale


def encode_prompts(pipeline: Any, prompts: Sequence[str], _: Mapping[str, Tensor]) -> PromptEmbeddings:
    """(U, 512, 3 C): hidden states of three layers, padding included."""
    hidden, _ = pipeline.encode_prompt(list(prompts), text_encoder_out_layers=READ_LAYERS)
    return PromptEmbeddings(hidden)


def count_tokens(pipeline: Any, prompt: str) -> int:
    """Of a prompt with what is around it."""
    return len(pipeline.tokenizer(prompt, verbose=False).input_ids) + MESSAGE_TOKENS


def encode_photos(pipeline: Any, photos: Sequence[Pixels]) -> dict[str, Tensor]:
    """Latents (C, h, w) by the names "latents.0" and so on, of each photo (H, W, 3), cut around its middle."""
    multiple = int(pipeline.vae_scale_factor) * PATCH
    context = {}
    for index, photo in enumerate(photos):
        fitted = crop_to_multiple(reduce_to(photo), multiple)
        context[f"latents.{index}"] = encode(pipeline, to_pixels(fitted))[0]
    return context


def check_context(pipeline: Any, context: Mapping[str, Tensor]) -> None:
    """Raises ValueError for other names, shapes or channels than of MAX_PHOTOS photos."""
    check_context_shapes(context, {"latents": (int(pipeline.transformer.config.in_channels), -1, -1)}, MAX_PHOTOS)


def predict(transformer: Any, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """The velocity (B, C, h, w). Photos in context are tokens after the image's, each at a time of its own."""
    count, _, height, width = latents.shape
    images = [latents, *of_each_photo(conditioning.context, "latents")]
    tokens = torch.cat([each.flatten(2).transpose(1, 2) for each in images], 1)  # (B, N, C)
    positions = torch.cat([_positions(each, CONTEXT_STEP * index) for index, each in enumerate(images)])  # (N, 4)
    hidden = conditioning.prompts.hidden
    text_positions = torch.zeros(hidden.shape[1], 4, dtype=torch.long, device=latents.device)
    text_positions[:, 3] = torch.arange(hidden.shape[1])
    predicted: Tensor = transformer(
        hidden_states=tokens.to(transformer.dtype),
        timestep=timesteps.expand(count).to(latents.dtype) / 1000,
        guidance=conditioning.guidance,
        encoder_hidden_states=hidden,
        txt_ids=text_positions,
        img_ids=positions,
        joint_attention_kwargs=joint_attention_kwargs(transformer, conditioning.image_embeddings, hidden.shape[1]),
        return_dict=False,
    )[0]
    return predicted[:, : height * width].transpose(1, 2).reshape(latents.shape)


def _positions(latents: Tensor, time: int) -> Tensor:
    """Time, row, column and 0 of each latent, (h w, 4)."""
    height, width = latents.shape[-2:]
    axes = [torch.tensor([time]), torch.arange(height), torch.arange(width), torch.arange(1)]
    return torch.cartesian_prod(*axes).to(latents.device)


def encode(pipeline: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, C, h, w): patches of the autoencoder's latents, each number standardized."""
    patches = torch.nn.functional.pixel_unshuffle(encode_unscaled(pipeline.vae, pixels), PATCH)
    mean, std = _statistics(pipeline.vae, patches)
    standardized: Tensor = (patches - mean) / std
    return standardized


def decode(pipeline: Any, latents: Tensor) -> Tensor:
    """The inverse of `encode`: (B, C, h, w) -> (B, 3, H, W)."""
    mean, std = _statistics(pipeline.vae, latents)
    return decode_unscaled(pipeline.vae, torch.nn.functional.pixel_shuffle(latents * std + mean, PATCH))


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each number, (1, C, 1, 1), which the autoencoder has in a layer of its own."""
    mean, variance = (each.view(1, -1, 1, 1).to(latents) for each in (vae.bn.running_mean, vae.bn.running_var))
    return mean, torch.sqrt(variance + float(vae.config.batch_norm_eps))


def set_timesteps(scheduler: Any, steps: int, latent_shape: LatentShape, device: torch.device) -> None:
    """Evenly from all noise, shifted towards noise the more, the larger the image."""
    sigmas = np.linspace(1.0, 1 / steps, steps)
    set_flow_timesteps(scheduler, steps, device, mu=shift(latent_shape[1] * latent_shape[2], steps), sigmas=sigmas.tolist())


def shift(num_tokens: int, steps: int) -> float:
    """The logarithm of the shift: two lines over the tokens of an image, for 10 and 200 steps, and between them."""
    after_200 = 0.00016927 * num_tokens + 0.45666666
    if num_tokens > 4300:
        return after_200
    after_10 = 8.73809524e-05 * num_tokens + 1.89833333
    slope = (after_200 - after_10) / 190
    return slope * steps + after_200 - 200 * slope


def empty_conditioning(pipeline: Any) -> Conditioning:
    """Of an empty prompt. Raises ValueError if the text encoder has fewer layers than are read."""
    config = pipeline.text_encoder.config
    if config.num_hidden_layers < max(READ_LAYERS):
        raise ValueError(f"a text encoder of {config.num_hidden_layers} layers, of which layer {max(READ_LAYERS)} is read")
    width = len(READ_LAYERS) * config.hidden_size
    return Conditioning(PromptEmbeddings(torch.zeros(1, MAX_PROMPT_TOKENS, width, device=pipeline.text_encoder.device)))


FLUX2_KLEIN = TransformerFamily(
    name="flux2-klein",
    pipeline_class="Flux2KleinPipeline",
    components={
        "transformer": ("Flux2Transformer2DModel",),
        "vae": ("AutoencoderKLFlux2",),
        "text_encoder": ("Qwen3ForCausalLM",),
        "tokenizer": ("Qwen2TokenizerFast", "Qwen2Tokenizer"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    },
    resolution=1024,
    size_multiple=16,
    max_context_photos=MAX_PHOTOS,
    max_prompt_tokens=MAX_PROMPT_TOKENS,
    default_sampling=default_sampling,
    is_guidance_distilled=is_guidance_distilled,
    latent_shape=latent_shape,
    encode_prompts=encode_prompts,
    count_tokens=count_tokens,
    encode_photos=encode_photos,
    check_context=check_context,
    predict=predict,
    encode=encode,
    decode=decode,
    set_timesteps=set_timesteps,
    empty_conditioning=empty_conditioning,
    token_widths=22.0,
    training=FlowTraining(
        lora_targets=(
            "to_q",
            "to_k",
            "to_v",
            "to_out.0",
            "to_out",
            "add_q_proj",
            "add_k_proj",
            "add_v_proj",
            "to_add_out",
            "to_qkv_mlp_proj",
        )
    ),
    chat_template=CHAT_TEMPLATE,
)
