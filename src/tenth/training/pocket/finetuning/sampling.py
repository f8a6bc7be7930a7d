"""Sampling inside of a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from tenth.models.trained_resolutions import DEFAULT_SAMPLING, TrainedResolutions
from tenth.sampling.schedulers import build_scheduler

DEFAULTS = DEFAULT_SAMPLING[TrainedResolutions.SINGLE_SQUARE]


def sample_latents(velocity: Callable[[Tensor, Tensor], Tensor], own: Any, noise: Tensor) -> Tensor:
    """The latents (B, C, h, w) to which the model's default sampling leads, without guidance. Gradients go through all steps.

    velocity: noisy latents, timesteps (B,) -> what the UNet predicts. own: the model's scheduler. noise: (B, C, h, w).
    Source: Clark et al. 2024, DRaFT, arXiv:2309.17400, section 4.1.
    """
    scheduler = build_scheduler(own, "unipc")
    scheduler.set_timesteps(DEFAULTS.steps)
    latents = noise - noise.mean((2, 3), keepdim=True) if DEFAULTS.centred else noise
    for timestep in scheduler.timesteps:
        predicted = velocity(latents, timestep.expand(len(latents)))
        latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    return latents
