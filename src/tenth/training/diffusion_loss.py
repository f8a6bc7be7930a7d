"""The training objective of every diffusion model: the denoising error, weighted by min-SNR, under dropped conditions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tenth.core.config import Fraction, config_dataclass, require
from tenth.core.rng import StepRNG
from tenth.models.denoiser import predict_x0

MIN_WEIGHT = 0.1  # at zero terminal SNR the weight would vanish, and the first step of sampling would never be trained

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
    """Squared error of one prediction for each image, weighted by min-SNR: (B,), to be averaged over the images.

    latents: (B, C, H, W), in the UNet's scale. scheduler: adds the noise; its prediction_type says what is predicted.
    extra_loss: a further loss on the denoised latents (x0) that the prediction implies.
    Source: Ho et al. 2020, arXiv:2006.11239; velocity: Salimans and Ho 2022, arXiv:2202.00512.
    """
    # Noise every image at a random timestep.
    device, prediction_type = latents.device, scheduler.config.prediction_type
    noise = rng.normal(*latents.shape[1:]).to(device)
    timesteps = rng.integers(scheduler.config.num_train_timesteps).to(device)  # (B,)
    noisy_latents = scheduler.add_noise(latents, noise, timesteps).contiguous(memory_format=torch.channels_last)

    # Compare the prediction with its target.
    if prediction_type == "epsilon":
        target = noise
    elif prediction_type == "sample":
        target = latents
    else:
        target = scheduler.get_velocity(latents, noise, timesteps)
    model_output = predict(noisy_latents, timesteps).float()
    error = (model_output - target.float()).square().mean((1, 2, 3))  # (B,)

    # Weight by min-SNR, and add the loss on x0.
    alphas_cumprod: Tensor = scheduler.alphas_cumprod.to(device)[timesteps]  # (B,)
    loss: Tensor = min_snr_weight(alphas_cumprod / (1 - alphas_cumprod), prediction_type, min_snr_gamma) * error
    if extra_loss is not None:
        x0 = predict_x0(noisy_latents, model_output, alphas_cumprod, prediction_type)
        loss = loss + extra_loss(x0, alphas_cumprod)
    return loss


@config_dataclass
class ConditioningDropout:
    """The probabilities with which an image loses conditions, for classifier-free guidance. Source: IP-Adapter's training."""

    p_unconditional: Fraction = 0.05  # text and image
    p_no_image: Fraction = 0.05  # only the image: the adapter then sees one zero embedding, which no aggregator touches
    p_no_text: Fraction = 0.05  # only the text

    def __post_init__(self) -> None:
        total = self.p_unconditional + self.p_no_image + self.p_no_text
        require(total <= 1, "p_unconditional + p_no_image + p_no_text", total, "at most 1 together")

    def masks(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Which images lose their image and which their text condition: (B,) bool each. uniform: (B,) in [0, 1)."""
        unconditional, no_image = uniform < self.p_unconditional, uniform < self.p_unconditional + self.p_no_image
        return no_image, unconditional | ~no_image & (uniform < self.p_unconditional + self.p_no_image + self.p_no_text)


def min_snr_weight(snr: Tensor, prediction_type: str, gamma: float) -> Tensor:
    """Weight of each timestep's error, (B,), so that the error of x0 is weighted by min(SNR, gamma); 1 where gamma is 0.

    The error of x0 is that of epsilon divided by the SNR, and that of the velocity divided by SNR + 1.
    Source: Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    if not gamma:
        return torch.ones_like(snr)
    if prediction_type == "epsilon":
        return (gamma / snr).clamp(max=1.0)  # finite at SNR 0, where min(SNR, gamma) / SNR is 0 / 0
    clipped_snr = snr.clamp(max=gamma)
    return clipped_snr if prediction_type == "sample" else (clipped_snr / (snr + 1)).clamp(min=MIN_WEIGHT)
