"""Sampling inside of a training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tenth.models.denoiser import predict_x0
from tenth.models.trained_resolutions import DEFAULT_SAMPLING, TrainedResolutions
from tenth.sampling.schedulers import build_scheduler

DEFAULTS = DEFAULT_SAMPLING[TrainedResolutions.SINGLE_SQUARE]


def sample_prediction(
    velocity: Callable[[Tensor, Tensor], Tensor], own: Any, noise: Tensor, steps_before: int
) -> tuple[Tensor, Tensor]:
    """The denoised latents (B, C, h, w) that one step of sampling predicts, and its timesteps (B,).

    Only this step has gradients. Scheduler and number of steps are the model's defaults, without guidance. velocity: noisy
    latents, timesteps (B,) -> what the UNet predicts. own: the model's scheduler. noise: (B, C, h, w). steps_before: how many
    steps are done before. Source: Xu et al. 2023, ImageReward, arXiv:2304.05977, section 4: rewards of the prediction at a
    random step.
    """
    scheduler = build_scheduler(own, "unipc")
    scheduler.set_timesteps(DEFAULTS.steps)
    latents = noise - noise.mean((2, 3), keepdim=True) if DEFAULTS.centred else noise
    with torch.no_grad():
        for timestep in scheduler.timesteps[:steps_before]:
            predicted = velocity(latents, timestep.expand(len(latents)))
            latents = scheduler.step(predicted, timestep, latents, return_dict=False)[0]
    timesteps = scheduler.timesteps[steps_before].expand(len(latents))
    return predict_x0(latents, velocity(latents, timesteps), scheduler.alphas_cumprod[timesteps], "v_prediction"), timesteps
