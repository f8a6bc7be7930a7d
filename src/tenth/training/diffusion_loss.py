"""The training objective of every diffusion model here: one noise, one prediction, one weighted squared error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tenth.core.rng import StepRNG

MIN_WEIGHT = 0.1  # at zero terminal SNR the weight would vanish and the first step of sampling would never be learnt

ExtraLoss = Callable[[Tensor, Tensor], Tensor]  # (predicted x0 (B, C, H, W), alphas_cumprod (B,)) -> losses (B,)
Predict = Callable[[Tensor, Tensor], Tensor]  # (noisy latents (B, C, H, W), timesteps (B,)) -> prediction (B, C, H, W)


def denoising_loss(
    predict: Predict,
    scheduler: Any,
    latents: Tensor,
    rng: StepRNG,
    min_snr_gamma: float = 5.0,
    extra_loss: ExtraLoss | None = None,
) -> Tensor:
    """Error of one noise prediction for each image, weighted by min-SNR: (B,), to be averaged over the images.

    latents: (B, C, H, W), as the UNet sees them. scheduler: adds the noise; its prediction_type says what is predicted.
    extra_loss: a further error, of the image that the prediction amounts to.
    Source: Ho et al. 2020, arXiv:2006.11239; velocity: Salimans and Ho 2022, arXiv:2202.00512.
    """
    device = latents.device
    noise = rng.normal(*latents.shape[1:]).to(device)
    timesteps = rng.integers(scheduler.config.num_train_timesteps).to(device)
    noisy_latents = scheduler.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)
    prediction_type = scheduler.config.prediction_type
    target = {"epsilon": noise, "sample": latents}.get(prediction_type)
    if target is None:
        target = scheduler.get_velocity(latents, noise, timesteps)
    model_output = predict(noisy_latents, timesteps).float()
    error = (model_output - target.float()).square().mean((1, 2, 3))  # (B,)
    alphas_cumprod: Tensor = scheduler.alphas_cumprod.to(device)[timesteps]
    loss: Tensor = min_snr_weight(alphas_cumprod / (1 - alphas_cumprod), prediction_type, min_snr_gamma) * error
    return (
        loss + extra_loss(predict_x0(noisy_latents, model_output, alphas_cumprod, prediction_type), alphas_cumprod)
        if extra_loss
        else loss
    )


def predict_x0(noisy_latents: Tensor, model_output: Tensor, alphas_cumprod: Tensor, prediction_type: str) -> Tensor:
    """The latents (B, C, H, W) that a prediction amounts to. alphas_cumprod: (B,), above 0 for epsilon-prediction."""
    signal, noise = (share.sqrt()[:, None, None, None] for share in (alphas_cumprod, 1 - alphas_cumprod))
    if prediction_type == "sample":
        return model_output
    if prediction_type == "epsilon":
        return (noisy_latents - noise * model_output) / signal
    return signal * noisy_latents - noise * model_output


def min_snr_weight(snr: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """The weight of each timestep's error (B,) so that, in terms of the image, it is min(SNR, gamma); 1 where gamma is 0.

    The image's error is the noise's divided by SNR, and the velocity's divided by SNR + 1.
    Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    if not gamma:
        return torch.ones_like(snr)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1.0)  # finite at SNR 0, where min(SNR, gamma) / SNR is 0 / 0
    clipped_snr = snr.clamp(max=gamma)
    return clipped_snr if prediction_type == "sample" else (clipped_snr / (snr + 1)).clamp(min=MIN_WEIGHT)
