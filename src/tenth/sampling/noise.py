"""What the loop asks of a scheduler, of diffusion or of flow matching: both have it, under different names."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from tenth.models.denoiser import predict_x0
from tenth.sampling.schedulers import is_flow_matching


def scaled_input(scheduler: Any, latents: Tensor, timestep: Tensor) -> Tensor:
    """What the network is given of noisy latents (B, C, h, w)."""
    if not hasattr(scheduler, "scale_model_input"):  # of flow matching alone
        return latents
    scaled: Tensor = scheduler.scale_model_input(latents, timestep)
    return scaled


def pure_noise(scheduler: Any, noise: Tensor) -> Tensor:
    """The latents (B, C, h, w) of the first step, from standard normal noise."""
    scale: float | Tensor = getattr(scheduler, "init_noise_sigma", 1.0)
    return noise * scale


def add_noise(scheduler: Any, latents: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """Latents (B, C, h, w), as noisy as a timestep (1,) has them."""
    if hasattr(scheduler, "add_noise"):
        noisy: Tensor = scheduler.add_noise(latents, noise, timestep)
    else:
        noisy = scheduler.scale_noise(latents, timestep, noise)
    return noisy


def predicted_x0(scheduler: Any, latents: Tensor, prediction: Tensor, timestep: Tensor) -> Tensor:
    """The latents without noise (B, C, h, w) that a prediction implies. latents: what the network was given."""
    config = scheduler.config
    if is_flow_matching(scheduler):
        sigma: float = float(timestep) / config.num_train_timesteps
        return latents - sigma * prediction
    training_step = timestep.round().long().clamp(0, int(config.num_train_timesteps) - 1).cpu()
    alphas_cumprod = scheduler.alphas_cumprod[training_step].to(prediction.device).clamp(min=1e-6)
    return predict_x0(latents, prediction, alphas_cumprod.expand(len(prediction)), config.prediction_type)
