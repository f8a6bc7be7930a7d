"""The training objective of every diffusion model here: one noise, one prediction, one weighted squared error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tenth.core.rng import Draws

LEAST_WEIGHT = 0.1  # at zero terminal SNR the weight would vanish and the first step of sampling would never be learnt

Also = Callable[[Tensor, Tensor], Tensor]  # (clean latents as predicted (B, C, H, W), share of signal (B,)) -> errors (B,)
Predict = Callable[[Tensor, Tensor], Tensor]  # (noisy latents (B, C, H, W), timesteps (B,)) -> prediction (B, C, H, W)


def noise_loss(
    predict: Predict, scheduler: Any, latents: Tensor, draws: Draws, gamma: float = 5.0, also: Also | None = None
) -> Tensor:
    """Error of one noise prediction for each image, weighted by min-SNR: (B,), to be averaged over the images.

    latents: (B, C, H, W), as the UNet sees them. scheduler: adds the noise; its prediction_type says what is predicted.
    also: a further error, of the image that the prediction amounts to.
    Source: Ho et al. 2020, arXiv:2006.11239; velocity: Salimans and Ho 2022, arXiv:2202.00512.
    """
    device = latents.device
    noise = draws.normal(*latents.shape[1:]).to(device)
    steps = draws.integers(scheduler.config.num_train_timesteps).to(device)
    noisy = scheduler.add_noise(latents, noise, steps).contiguous(memory_format=torch.channels_last)
    kind = scheduler.config.prediction_type
    target = {"epsilon": noise, "sample": latents}.get(kind)
    if target is None:
        target = scheduler.get_velocity(latents, noise, steps)
    predicted = predict(noisy, steps).float()
    error = (predicted - target.float()).square().mean((1, 2, 3))  # (B,)
    kept: Tensor = scheduler.alphas_cumprod.to(device)[steps]
    loss: Tensor = min_snr_weight(kept / (1 - kept), kind, gamma) * error
    return loss + also(clean_latents(noisy, predicted, kept, kind), kept) if also else loss


def clean_latents(noisy: Tensor, predicted: Tensor, kept: Tensor, prediction: str) -> Tensor:
    """The latents (B, C, H, W) that a prediction amounts to. kept: share of signal (B,), above 0 where noise is predicted."""
    signal, noise = (share.sqrt()[:, None, None, None] for share in (kept, 1 - kept))
    if prediction == "sample":
        return predicted
    if prediction == "epsilon":
        return (noisy - noise * predicted) / signal
    return signal * noisy - noise * predicted


def min_snr_weight(snr: Tensor, prediction: str, gamma: float) -> Tensor:
    """The weight of each timestep's error (B,) so that, in terms of the image, it is min(SNR, gamma); 1 where gamma is 0.

    The image's error is the noise's divided by SNR, and the velocity's divided by SNR + 1.
    Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    if not gamma:
        return torch.ones_like(snr)
    if prediction == "epsilon":
        return (gamma / snr).clamp(max=1.0)  # finite at SNR 0, where min(SNR, gamma) / SNR is 0 / 0
    least = snr.clamp(max=gamma)
    return least if prediction == "sample" else (least / (snr + 1)).clamp(min=LEAST_WEIGHT)
