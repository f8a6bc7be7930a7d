"""Qwen-Image-Edit: a large transformer that reads prompt and photos together by Qwen2.5-VL, and the photos' latents beside it.

Source of all that is computed here: diffusers 0.42, pipelines/qwenimage/pipeline_qwenimage_edit_plus.py, and for a prompt
without photos pipeline_qwenimage.py. Two things differ. In Qwen2.5-VL the tokens of a photo have rows and columns as positions,
as it was trained: diffusers gives transformers 5 nothing to tell them by, and they get positions of text (its issue 14194).
And photos are encoded once for all prompts, not once for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle
from transformers import Qwen2VLImageProcessor, Qwen2VLProcessor, Qwen2VLVideoProcessor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from tenth.core.errors import DataError
from tenth.core.types import DefaultSampling, Pixels
from tenth.models.denoiser import Conditioning
from tenth.models.families.family import (
    LatentShape,
    TransformerFamily,
    check_context_shapes,
    of_each_photo,
    set_flow_timesteps,
    size_shift,
)
from tenth.models.families.photos import resize_to_area, to_pixels
from tenth.models.latents import decode_unscaled, encode_unscaled
from tenth.models.prompt_encoder import PromptEmbeddings

PATCH = 2  # of the latents along one side, which make one token
PHOTO_AREA, SEEN_AREA = 1024 * 1024, 384 * 384  # pixels of a photo, for the autoencoder and for Qwen2.5-VL
PHOTO_MULTIPLE = 32  # the sides of both are multiples of it
MAX_PROMPT_TOKENS = 1024
MAX_PHOTOS = 3  # as the model card has it; the pipeline takes any number
PHOTO_MARK = "<|image_pad|>"
PHOTO_TEXT = f"Picture {{}}: <|vision_start|>{PHOTO_MARK}<|vision_end|>"  # the words by which the weights know a photo
SAMPLING = DefaultSampling(40, 4.0, guidance_rescale=1.0)  # steps and guidance as the model card has them
CHECKED_TOKENS = 4


def latent_shape(pipeline: Any, height: int, width: int) -> LatentShape:
    """(C, h, w), with even sides: four make a token."""
    sides = (side // (int(pipeline.vae_scale_factor) * PATCH) * PATCH for side in (height, width))
    return int(pipeline.transformer.config.in_channels) // PATCH**2, *sides  # type: ignore[return-value]


def encode_prompts(pipeline: Any, prompts: Sequence[str], context: Mapping[str, Tensor]) -> PromptEmbeddings:
    """(1, T, C) of one prompt, as Qwen2.5-VL reads it after the photos in context; alone, as it reads one for a new image.

    Raises DataError for a prompt with the mark that stands for a photo.
    """
    (prompt,) = prompts
    seen = [each[0] for each in of_each_photo(context, "seen")]  # (h, w, C) each
    ids, mark = token_ids(pipeline, prompt, seen), pipeline.tokenizer.convert_tokens_to_ids(PHOTO_MARK)
    tokens = torch.tensor([ids], device=pipeline.text_encoder.device)
    settings: dict[str, Any] = {}
    if seen:
        merge = int(pipeline.text_encoder.config.vision_config.spatial_merge_size)
        settings = {
            "mm_token_type_ids": (tokens == mark).int(),
            "image_grid_thw": torch.tensor([[1, merge * each.shape[0], merge * each.shape[1]] for each in seen]).to(tokens),
            "mm_encoder_outputs": {
                "image": BaseModelOutputWithPooling(pooler_output=tuple(each.flatten(0, 1) for each in seen))
            },
        }
    read = pipeline.text_encoder(tokens, output_hidden_states=True, use_cache=False, logits_to_keep=1, **settings)
    hidden = read.hidden_states[-1][:, template(pipeline, with_photos=bool(seen))[1] :]
    return PromptEmbeddings(hidden)


def token_ids(pipeline: Any, prompt: str, seen: Sequence[Tensor]) -> list[int]:
    """Of a prompt and what is around it. seen: (h, w, C) of each photo, which is h w tokens. Raises DataError."""
    if PHOTO_MARK in prompt:
        needed = "it stands for the photos, which are put before the prompt"
        raise DataError(f"a prompt with {PHOTO_MARK}", needed, "Leave it out")
    text, hidden = template(pipeline, with_photos=bool(seen))
    photos = "".join(PHOTO_TEXT.format(index + 1) for index in range(len(seen)))
    ids = pipeline.tokenizer(text.format(photos + prompt), verbose=False).input_ids
    mark, sizes = pipeline.tokenizer.convert_tokens_to_ids(PHOTO_MARK), iter(seen)
    ids = [token for each in ids for token in ([each] * next(sizes)[..., 0].numel() if each == mark else [each])]
    return ids[: hidden + MAX_PROMPT_TOKENS + sum(each[..., 0].numel() for each in seen)]


def template(pipeline: Any, *, with_photos: bool) -> tuple[str, int]:
    """What is around a prompt, with {} in its place, and how many of its first tokens the transformer is not given."""
    if not with_photos:
        pipeline = diffusers.QwenImagePipeline(None, None, None, None, None)
    return pipeline.prompt_template_encode, int(pipeline.prompt_template_encode_start_idx)


def count_tokens(pipeline: Any, prompt: str) -> int:
    """Of a prompt that the transformer is given, with what is around it."""
    return len(pipeline.tokenizer(prompt, verbose=False).input_ids)


def encode_photos(pipeline: Any, photos: Sequence[Pixels], area: int = PHOTO_AREA) -> dict[str, Tensor]:
    """Of each photo (H, W, 3) its latents "latents.0" (C, h, w), and what Qwen2.5-VL sees in it, "seen.0" (h', w', C').

    area: pixels that the autoencoder is given.
    """
    context = {}
    for index, photo in enumerate(photos):
        pixels = to_pixels(resize_to_area(photo, area, PHOTO_MULTIPLE))
        with torch.no_grad():  # a photo is no larger than what is encoded without tiles
            distribution = pipeline.vae.encode(pixels[:, :, None].to(pipeline.vae.device, pipeline.vae.dtype)).latent_dist
            context[f"latents.{index}"] = scaled(pipeline.vae, distribution.mode())[0, :, 0]
            inputs = pipeline.processor.image_processor(
                images=[resize_to_area(photo, SEEN_AREA, PHOTO_MULTIPLE)], return_tensors="pt"
            )
            inputs = inputs.to(pipeline.text_encoder.device)
            (features,) = pipeline.text_encoder.get_image_features(**inputs).pooler_output  # (h' w', C')
        merge = int(pipeline.text_encoder.config.vision_config.spatial_merge_size)
        context[f"seen.{index}"] = features.unflatten(0, [int(side) // merge for side in inputs.image_grid_thw[0, 1:]])
    return context


def check_context(pipeline: Any, context: Mapping[str, Tensor]) -> None:
    """Raises ValueError for other names, shapes or channels than of MAX_PHOTOS photos."""
    channels, width = latent_shape(pipeline, 0, 0)[0], int(pipeline.text_encoder.config.text_config.hidden_size)
    check_context_shapes(context, {"latents": (channels, -PATCH, -PATCH), "seen": (-1, -1, width)}, MAX_PHOTOS)


def predict(transformer: Any, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """The velocity (B, C, h, w). Photos in context are tokens after the image's."""
    count, _, height, width = latents.shape
    images = [latents, *of_each_photo(conditioning.context, "latents")]
    tokens = torch.cat([pixel_unshuffle(each, PATCH).flatten(2).transpose(1, 2) for each in images], 1)  # (B, N, 4 C)
    shapes = [(1, each.shape[-2] // PATCH, each.shape[-1] // PATCH) for each in images]
    predicted: Tensor = transformer(
        hidden_states=tokens,
        timestep=timesteps.expand(count).to(latents.dtype) / 1000,
        encoder_hidden_states=conditioning.prompts.hidden,
        encoder_hidden_states_mask=conditioning.prompts.mask,
        img_shapes=[shapes] * count,
        return_dict=False,
    )[0]
    height, width = height // PATCH, width // PATCH
    return pixel_shuffle(predicted[:, : height * width].transpose(1, 2).unflatten(2, (height, width)), PATCH)


def correct_guidance(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """The guided velocity (B, C, h, w) with, by a share of 0 to 1, the length of the conditional one, token by token."""
    tokens, plain = pixel_unshuffle(guided, PATCH), pixel_unshuffle(conditional, PATCH)
    as_long = tokens * (plain.norm(dim=1, keepdim=True) / tokens.norm(dim=1, keepdim=True))
    return torch.lerp(guided, pixel_shuffle(as_long, PATCH), share)


def scaled(vae: Any, latents: Tensor) -> Tensor:
    """The autoencoder's latents (B, C, 1, h, w) in the transformer's scale."""
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std


def encode(pipeline: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, C, h, w), each channel standardized."""
    return scaled(pipeline.vae, encode_unscaled(pipeline.vae, pixels[:, :, None]))[:, :, 0]


def decode(pipeline: Any, latents: Tensor) -> Tensor:
    """The inverse of `encode`: (B, C, h, w) -> (B, 3, H, W)."""
    mean, std = _statistics(pipeline.vae, latents[:, :, None])
    return decode_unscaled(pipeline.vae, latents[:, :, None] * std + mean)[:, :, 0]


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (1, C, 1, 1, 1)."""
    mean, std = (
        latents.new_tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return mean, std


def set_timesteps(scheduler: Any, steps: int, latent_shape: LatentShape, device: torch.device) -> None:
    """Evenly from all noise, shifted towards noise the more, the larger the image."""
    mu = size_shift(scheduler, latent_shape[1] * latent_shape[2] // PATCH**2)
    set_flow_timesteps(scheduler, steps, device, mu=mu, sigmas=np.linspace(1.0, 1 / steps, steps).tolist())


def empty_conditioning(pipeline: Any) -> Conditioning:
    """Of a prompt of a few tokens."""
    encoder = pipeline.text_encoder
    return Conditioning(
        PromptEmbeddings(torch.zeros(1, CHECKED_TOKENS, encoder.config.text_config.hidden_size, device=encoder.device))
    )


def processor(pipeline: Any) -> Qwen2VLProcessor:
    """The processor: its sizes are those of the vision encoder, the rest is Qwen2.5-VL's own."""
    vision = pipeline.text_encoder.config.vision_config
    sizes = {"patch_size": vision.patch_size, "temporal_patch_size": vision.temporal_patch_size, "merge_size": vision.spatial_merge_size}  # fmt: skip # noqa: E501
    return Qwen2VLProcessor(Qwen2VLImageProcessor(**sizes), pipeline.tokenizer, Qwen2VLVideoProcessor(**sizes))


QWEN_IMAGE_EDIT = TransformerFamily(
    name="qwen-image-edit",
    pipeline_class="QwenImageEditPlusPipeline",
    components={
        "transformer": ("QwenImageTransformer2DModel",),
        "vae": ("AutoencoderKLQwenImage",),
        "text_encoder": ("Qwen2_5_VLForConditionalGeneration",),
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "scheduler": ("FlowMatchEulerDiscreteScheduler",),
    },
    resolution=1024,
    size_multiple=16,
    max_context_photos=MAX_PHOTOS,
    max_prompt_tokens=MAX_PROMPT_TOKENS,
    default_sampling=lambda _: SAMPLING,
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
    token_widths=16.0,
    correct_guidance=correct_guidance,
    made_parts={"processor": processor},
    prompts_see_photos=True,
    context_side=1024,  # as large as the autoencoder is given it anyway
)
