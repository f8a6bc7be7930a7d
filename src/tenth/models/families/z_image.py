"""Z-Image: a transformer that reads prompt and image as one sequence; of its pipeline Omni, photos between them as well.

Source of all that is computed here: diffusers 0.42, pipelines/z_image/pipeline_z_image.py and pipeline_z_image_omni.py. Their
guidance scale is one less than ours. Omni's photos are read by the autoencoder and by SigLIP 2, and stand between its words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import DefaultSampling, Pixels
from tenth.models.denoiser import Conditioning
from tenth.models.families.family import (
    LatentShape,
    TransformerFamily,
    check_context_shapes,
    of_each_photo,
    refuse_context,
    set_flow_timesteps,
    size_shift,
)
from tenth.models.families.photos import crop_to_multiple, reduce_to, to_pixels
from tenth.models.latents import decode as decode_latents
from tenth.models.latents import encode as encode_pixels
from tenth.models.prompt_encoder import PromptEmbeddings

PATCH = 2  # of the latents along one side, which make one token
MAX_PROMPT_TOKENS = 512
MAX_PHOTOS = 4  # of Omni, of which no weights are published yet, and no number with them
# What Qwen3 reads around a prompt. With photos it reads each part by itself, and a photo stands where a part ends.
START, END = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
PHOTO_START, PHOTO_END = "<|vision_start|>", "<|vision_end|>"
FIXED_PARTS = {"first": START + PHOTO_START, "between": PHOTO_END + PHOTO_START, "last": f"{PHOTO_END}<|im_end|>"}
MESSAGE_TOKENS = 8  # of START and END
CHAT_TEMPLATE = f"{{{{ {START!r} + messages[0].content + {END!r} }}}}"  # of the tokenizer, for diffusers' own pipeline
TURBO_SHIFT = 3.0  # of its scheduler; the model that it was distilled from has 6
TURBO_SAMPLING, SAMPLING = DefaultSampling(8, 1.0, guidance_rescale=0.0), DefaultSampling(50, 5.0, guidance_rescale=0.0)
CHECKED_TOKENS, CHECKED_SIDE = 4, 64


def default_sampling(pipeline: Any) -> DefaultSampling:
    """Eight steps of Turbo, without guidance; fifty, guided, of the others. They differ in their scheduler's shift alone."""
    return TURBO_SAMPLING if pipeline.scheduler.config.shift == TURBO_SHIFT else SAMPLING


def latent_shape(pipeline: Any, height: int, width: int) -> LatentShape:
    """(C, h, w), with even sides: four make a token."""
    scale = int(pipeline.vae_scale_factor) * PATCH
    return int(pipeline.transformer.config.in_channels), height // scale * PATCH, width // scale * PATCH


def encode_prompts(pipeline: Any, prompts: Sequence[str], context: Mapping[str, Tensor]) -> PromptEmbeddings:
    """(1, T, C) of one prompt: the last hidden state but one of Qwen3. Of photos their number alone is read."""
    (prompt,) = prompts
    before, after = (PHOTO_END, PHOTO_START) if context else ("", "")
    text = f"{before}{prompt}{END}{after}" if context else f"{START}{prompt}{END}"
    return PromptEmbeddings(read_text(pipeline, text)[None])


def read_text(pipeline: Any, text: str) -> Tensor:
    """(T, C) of a text."""
    ids = pipeline.tokenizer(text, verbose=False).input_ids[:MAX_PROMPT_TOKENS]
    tokens = torch.tensor([ids], device=pipeline.text_encoder.device)
    with torch.no_grad():
        hidden: Tensor = pipeline.text_encoder(tokens, output_hidden_states=True, use_cache=False).hidden_states[-2]
    return hidden[0]


def count_tokens(pipeline: Any, prompt: str) -> int:
    """Of a prompt with what is around it."""
    return len(pipeline.tokenizer(prompt, verbose=False).input_ids) + MESSAGE_TOKENS


def encode_photos(pipeline: Any, photos: Sequence[Pixels]) -> dict[str, Tensor]:
    """Of each photo (H, W, 3) its latents "latents.0" (C, h, w), cut around its middle, and "seen.0" (h', w', C'), SigLIP's.

    And what Qwen3 reads of the words around them: "text.first", "text.between" and "text.last", (T, C).
    """
    context = {f"text.{name}": read_text(pipeline, text) for name, text in FIXED_PARTS.items()}
    multiple = int(pipeline.vae_scale_factor) * PATCH
    for index, photo in enumerate(photos):
        reduced = reduce_to(photo)
        pixels = to_pixels(crop_to_multiple(reduced, multiple)).to(pipeline.vae.device)
        context[f"latents.{index}"] = encode(pipeline, pixels)[0]
        inputs = pipeline.siglip_processor(images=[reduced], return_tensors="pt")
        height, width = map(int, inputs.spatial_shapes[0])
        with torch.no_grad():
            features = pipeline.siglip(**inputs.to(pipeline.siglip.device)).last_hidden_state[0, : height * width]
        context[f"seen.{index}"] = features.unflatten(0, (height, width))
    return context


def check_context(pipeline: Any, context: Mapping[str, Tensor]) -> None:
    """Raises ValueError for other names, shapes or channels than of MAX_PHOTOS photos; of Z-Image itself, for any."""
    channels, width = int(pipeline.transformer.config.in_channels), pipeline.transformer.config.siglip_feat_dim
    if width is None:
        refuse_context(pipeline, context)
    check_context_shapes(
        context,
        {"latents": (channels, -PATCH, -PATCH), "seen": (-1, -1, int(width))},
        MAX_PHOTOS,
        {f"text.{name}": (-1, int(pipeline.text_encoder.config.hidden_size)) for name in FIXED_PARTS},
    )


def predict(transformer: Any, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """The velocity (B, C, h, w). The transformer's time, and with it its direction, goes from noise to the image."""
    prompts, settings = conditioning.prompts, {}
    texts: list[Any] = [row if prompts.mask is None else row[prompts.mask[index]] for index, row in enumerate(prompts.hidden)]
    images: list[Any] = list(latents.unsqueeze(2).to(transformer.dtype))  # (C, 1, h, w) each
    if transformer.config.siglip_feat_dim is not None:
        rows = [{name: tensor[index] for name, tensor in conditioning.context.items()} for index in range(len(latents))]
        texts, images, seen = (list(each) for each in zip(*map(_among_photos, texts, images, rows), strict=True))
        settings = {"siglip_feats": seen, "image_noise_mask": [[0] * (len(each) - 1) + [1] for each in images]}
    time = (1000 - timesteps.expand(len(latents))) / 1000
    predicted = transformer(images, time, texts, **settings, return_dict=False)[0]
    return -torch.stack(list(predicted)).squeeze(2).to(latents.dtype)


def _among_photos(text: Tensor, image: Tensor, context: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor], Any]:
    """Omni's sequence of one image: texts (T, C), images (C, 1, h, w), what SigLIP sees, (h', w', C'), None for the image."""
    if not context:
        return [text], [image], None
    photos = [each.unsqueeze(1) for each in of_each_photo(context, "latents")]
    texts = [context["text.first"], *[context["text.between"]] * (len(photos) - 1), text, context["text.last"]]
    return texts, [*photos, image], [*of_each_photo(context, "seen"), None]


def correct_guidance(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """The guided velocity (B, C, h, w), by a share of 0 to 1, no longer than the conditional one, image by image."""
    long, most = (each.flatten(1).norm(dim=1).view(-1, 1, 1, 1) for each in (guided, conditional))
    return torch.lerp(guided, guided * (most / long).clamp(max=1), share)


def encode(pipeline: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, C, h, w)."""
    return encode_pixels(pipeline.vae, pixels)


def decode(pipeline: Any, latents: Tensor) -> Tensor:
    """The inverse of `encode`: (B, C, h, w) -> (B, 3, H, W)."""
    return decode_latents(pipeline.vae, latents)


def set_timesteps(scheduler: Any, steps: int, latent_shape: LatentShape, device: torch.device) -> None:
    """Evenly from all noise, shifted as the scheduler's configuration says."""
    mu = size_shift(scheduler, latent_shape[1] * latent_shape[2] // PATCH**2)
    set_flow_timesteps(scheduler, steps, device, mu=mu, sigmas=np.linspace(1.0, 1 / steps, steps).tolist())


def empty_conditioning(pipeline: Any) -> Conditioning:
    """Of a prompt of a few tokens; of Omni, beside a small photo."""
    zeros = partial(torch.zeros, device=pipeline.text_encoder.device)
    text, context = zeros(1, CHECKED_TOKENS, pipeline.text_encoder.config.hidden_size), {}
    if hasattr(pipeline, "siglip"):
        latents = zeros(1, *latent_shape(pipeline, CHECKED_SIDE, CHECKED_SIDE))
        context = {"latents.0": latents, "seen.0": zeros(1, 1, 1, pipeline.siglip.config.hidden_size)}
        context |= {f"text.{name}": text for name in FIXED_PARTS}
    return Conditioning(PromptEmbeddings(text), context=context)


Z_IMAGE = TransformerFamily(
    name="z-image",
    pipeline_class="ZImagePipeline",
    components={
        "transformer": ("ZImageTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("Qwen3Model", "Qwen3ForCausalLM"),
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    },
    resolution=1024,
    size_multiple=16,
    max_context_photos=0,
    max_prompt_tokens=MAX_PROMPT_TOKENS,
    default_sampling=default_sampling,
    is_guidance_distilled=lambda _: False,
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
    token_widths=14.0,
    correct_guidance=correct_guidance,
    float32_latents=True,
    chat_template=CHAT_TEMPLATE,
)
Z_IMAGE_OMNI = replace(
    Z_IMAGE,
    name="z-image-omni",
    pipeline_class="ZImageOmniPipeline",
    components={**Z_IMAGE.components, "siglip": ("Siglip2VisionModel",), "siglip_processor": ("Siglip2ImageProcessor",)},
    max_context_photos=MAX_PHOTOS,
    prompts_see_photos=True,
)
