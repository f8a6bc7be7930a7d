"""Sampling inside of a training step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tenth.models.denoiser import Conditioning, concat
from tenth.models.trained_resolutions import DEFAULT_SAMPLING, TrainedResolutions
from tenth.sampling.guidance import Guidance
from tenth.sampling.schedulers import build_scheduler

DEFAULTS = DEFAULT_SAMPLING[TrainedResolutions.SINGLE_SQUARE]


Velocity = Callable[[Tensor, Tensor], Tensor]  # noisy latents (B, C, h, w), timesteps (B,) -> what the UNet predicts


def sample_latents(velocity: Velocity, model_scheduler: Any, noise: Tensor) -> Tensor:
    """The latents (B, C, h, w) to which the scheduler and number of steps of the defaults lead. Gradients go through all steps.

    noise: (B, C, h, w).
    Source: Clark et al. 2024, DRaFT, arXiv:2309.17400, section 4.1.
    """
    scheduler = build_scheduler(model_scheduler, "unipc")
    scheduler.set_timesteps(DEFAULTS.steps)
    latents = noise - noise.mean((2, 3), keepdim=True) if DEFAULTS.centred else noise
    for timestep in scheduler.timesteps:
        predicted = velocity(latents, timestep.expand(len(latents)))
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    return latents


def guided_velocity(
    predict_velocity: Callable[[Tensor, Tensor, Conditioning], Tensor],
    terms: Mapping[str, Conditioning],
    scale: float,
    text_scale: float,
    with_text: Tensor | None = None,
) -> Velocity:
    """What guidance makes of a UNet's predictions. terms: UNCONDITIONAL, CONDITIONAL and TEXT_ONLY, of B images.

    scale, text_scale: as of `Guidance`; all else is the defaults'. with_text: which of the images have the second, (B,); None:
    all.
    """
    guidance = Guidance(scale, text_scale, rescale=DEFAULTS.guidance_rescale, centred=DEFAULTS.centred)
    without_text = replace(guidance, text_scale=0.0)
    joined = concat(list(terms.values()))

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        predicted = predict_velocity(torch.cat([latents] * len(terms)), torch.cat([timesteps] * len(terms)), joined).float()
        by_term = dict(zip(terms, predicted.chunk(len(terms)), strict=True))
        guided = guidance.combine(by_term)
        return (
            guided if with_text is None else torch.where(with_text[:, None, None, None], guided, without_text.combine(by_term))
        )

    return velocity
