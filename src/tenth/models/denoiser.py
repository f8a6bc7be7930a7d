"""One prediction of a diffusion model's network: the same call for sampling and for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tenth.models.adapters.regional_attention import RegionMasks
from tenth.models.prompt_encoder import PromptEmbeddings


@dataclass(frozen=True, eq=False)
class Conditioning:
    """What B predictions are conditioned on.

    prompts: B of them. image_embeddings: (B, M, D), or (B, M, T, D) for patch tokens; None where no adapter is in the UNet.
    time_ids: of `sdxl_time_ids`, for SDXL. timestep_cond: (B, P), for a UNet with a layer for it. regions: where in the images
    each person's rows of the embeddings act; None: everywhere.
    """

    prompts: PromptEmbeddings
    image_embeddings: Tensor | None = None
    time_ids: Tensor | None = None
    timestep_cond: Tensor | None = None
    regions: RegionMasks | None = None


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

    hidden = torch.cat([each.prompts.hidden for each in conditionings])
    regions = [each.regions for each in conditionings if each.regions is not None]
    return Conditioning(
        PromptEmbeddings(hidden, joined([each.prompts.pooled for each in conditionings])),
        joined([each.image_embeddings for each in conditionings]),
        joined([each.time_ids for each in conditionings]),
        joined([each.timestep_cond for each in conditionings]),
        RegionMasks.concat(regions) if regions else None,
    )


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
