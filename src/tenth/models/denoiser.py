"""One prediction of a diffusion model's network: the same call for sampling and for training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from tenth.core.types import DiffusionModel, Identity
from tenth.models.adapters.regional_attention import RegionMasks
from tenth.models.prompt_encoder import PromptEmbeddings

# The terms of guidance, in the order in which the network computes them.
UNCONDITIONAL = "unconditional"  # negative prompt, unconditional image embedding
CONDITIONAL = "conditional"  # prompt and person
TEXT_ONLY = "text only"  # prompt, unconditional image embedding


@dataclass(frozen=True, eq=False)
class Conditions:
    """What B images are to show, before a model encodes it.

    negative_prompt: read where `guided`, which says that predictions beside the conditional one are needed. guidance_scale: for
    a network into which guidance was distilled. height, width: in pixels. embeddings: (B, M, D) or (B, M, T, D), an adapter's.
    context: (B, ...) tensors, of photos in context. regions: where each person's rows of the embeddings act; None: everywhere.
    """

    prompts: Sequence[str]
    negative_prompt: str = ""
    guided: bool = False
    guidance_scale: float = 1.0
    height: int = 0
    width: int = 0
    embeddings: Tensor | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)
    regions: RegionMasks | None = None


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What B predictions are conditioned on.

    prompts: B of them. image_embeddings: (B, M, D), or (B, M, T, D) for patch tokens; None where no adapter is in the UNet.
    time_ids: of `sdxl_time_ids`, for SDXL. timestep_cond: (B, P), for a UNet with a layer for it. regions: where in the images
    each person's rows of the embeddings act; None: everywhere. context: (B, ...) tensors of photos, by the names of a
    transformer's family. guidance: (B,), the scale, for a transformer with a layer for it.
    """

    prompts: PromptEmbeddings
    image_embeddings: Tensor | None = None
    time_ids: Tensor | None = None
    timestep_cond: Tensor | None = None
    regions: RegionMasks | None = None
    context: Mapping[str, Tensor] = field(default_factory=dict)
    guidance: Tensor | None = None


class Denoiser(Protocol):
    """Noisy latents (B, C, h, w), timesteps, () or (B,), and B conditions -> the prediction (B, C, h, w)."""

    def __call__(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor: ...


def predict(unet: Any, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
    """What the UNet predicts: (B, C, h, w), of its scheduler's prediction type. Arguments as of `Denoiser`."""
    prompts = conditioning.prompts
    added: dict[str, Any] = {}
    if conditioning.image_embeddings is not None:
        added["image_embeds"] = [conditioning.image_embeddings]
    if prompts.pooled is not None:
        added |= {"text_embeds": prompts.pooled, "time_ids": conditioning.time_ids}
    predicted: Tensor = unet(
        latents,
        timesteps,
        prompts.hidden,
        timestep_cond=conditioning.timestep_cond,
        added_cond_kwargs=added,
        cross_attention_kwargs=None if conditioning.regions is None else {"ip_adapter_masks": conditioning.regions},
        return_dict=False,
    )[0]
    return predicted


def sdxl_time_ids(prompts: PromptEmbeddings, height: int, width: int) -> Tensor | None:
    """SDXL's conditioning on sizes, (B, 6): the original size, no crop, the target size. None for other families."""
    if prompts.pooled is None:
        return None
    ids = prompts.pooled.new_tensor([[height, width, 0, 0, height, width]])
    return ids.expand(len(prompts.pooled), -1)


def concat(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Conditions of several batches as one, in their order. All have the same parts."""

    def joined(parts: Sequence[Tensor | None]) -> Tensor | None:
        tensors = [part for part in parts if part is not None]
        return torch.cat(tensors) if tensors else None

    prompts, context = concat_prompts([each.prompts for each in conditionings]), conditionings[0].context
    regions = [each.regions for each in conditionings if each.regions is not None]
    return Conditioning(
        prompts,
        joined([each.image_embeddings for each in conditionings]),
        joined([each.time_ids for each in conditionings]),
        joined([each.timestep_cond for each in conditionings]),
        RegionMasks.concat(regions) if regions else None,
        {name: torch.cat([each.context[name] for each in conditionings]) for name in context},
        joined([each.guidance for each in conditionings]),
    )


def stack_contexts(identities: Sequence[Identity]) -> dict[str, Tensor]:
    """The photos in context of B identities, whose names and shapes are the same: (B, ...) tensors; {} without any."""
    names = identities[0].context if identities else ()
    return {name: torch.stack([each.context[name] for each in identities]) for name in names}


def concat_prompts(prompts: Sequence[PromptEmbeddings]) -> PromptEmbeddings:
    """Those of several batches as one, in their order. Shorter ones are padded with zeros, which a mask hides."""
    pooled = [each.pooled for each in prompts if each.pooled is not None]
    hidden, length = [each.hidden for each in prompts], max(each.hidden.shape[1] for each in prompts)
    masks = [each.mask for each in prompts if each.mask is not None]
    if masks or any(each.shape[1] < length for each in hidden):
        masks = [
            each.hidden.new_ones(each.hidden.shape[:2], dtype=torch.bool) if each.mask is None else each.mask
            for each in prompts
        ]
        hidden = [functional.pad(each, (0, 0, 0, length - each.shape[1])) for each in hidden]
        masks = [functional.pad(each, (0, length - each.shape[1])) for each in masks]
    return PromptEmbeddings(torch.cat(hidden), torch.cat(pooled) if pooled else None, torch.cat(masks) if masks else None)


def unet_conditionings(model: DiffusionModel, conditions: Conditions) -> dict[str, Conditioning]:
    """What each of the terms that guidance may need is conditioned on, for a UNet.

    Guidance is away from a zero embedding, or, for patch tokens, from those of a black image.
    """
    count, device = len(conditions.prompts), model.device
    prompts, negative = model.prompt_encoder(
        conditions.prompts, conditions.negative_prompt, guided=conditions.guided, device=device
    )
    timestep_cond = None
    if model.is_guidance_distilled:
        embedding = guidance_embedding(conditions.guidance_scale, int(model.pipeline.unet.config.time_cond_proj_dim), count)
        timestep_cond = embedding.to(device, model.dtype)
    time_ids = sdxl_time_ids(prompts, conditions.height, conditions.width)
    person = Conditioning(prompts, conditions.embeddings, time_ids, timestep_cond, conditions.regions)
    if negative is None:
        return {CONDITIONAL: person}
    nobody = None if conditions.embeddings is None else model.unconditional_like(conditions.embeddings)
    return {
        UNCONDITIONAL: replace(person, prompts=negative, image_embeddings=nobody),
        CONDITIONAL: person,
        TEXT_ONLY: replace(person, image_embeddings=nobody),
    }


def guidance_embedding(guidance_scale: float, dim: int, count: int) -> Tensor:
    """The embedding (count, dim) of a guidance scale, for a UNet into which guidance was distilled.

    Source: Luo et al. 2023, arXiv:2310.04378, section 4.3: sine and cosine of 1,000 (scale - 1) at `dim` / 2 frequencies.
    """
    half = dim // 2
    frequencies = torch.exp(torch.arange(half) * -(torch.log(torch.tensor(10_000.0)) / (half - 1)))
    angles = 1_000.0 * (guidance_scale - 1) * frequencies
    embedding = torch.cat([angles.sin(), angles.cos(), torch.zeros(dim % 2)])
    return embedding.expand(count, -1)


def predict_x0(noisy_latents: Tensor, model_output: Tensor, alphas_cumprod: Tensor, prediction_type: str) -> Tensor:
    """The denoised latents x0 (B, C, H, W) that a prediction implies. alphas_cumprod: (B,), above 0 for epsilon-prediction."""
    signal, noise = (share.sqrt()[:, None, None, None] for share in (alphas_cumprod, 1 - alphas_cumprod))
    if prediction_type == "sample":
        return model_output
    if prediction_type == "epsilon":
        return (noisy_latents - noise * model_output) / signal
    return signal * noisy_latents - noise * model_output
