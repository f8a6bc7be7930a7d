"""The objective of flow matching: the squared error of the velocity, between noise and the latents of an image."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from tenth.core.rng import StepRNG
from tenth.training.flow_matching.time_sampling import TimeSampling

NUM_TRAIN_TIMESTEPS = 1000  # a timestep is so many times the share of noise
Predict = Callable[[Tensor, Tensor], Tensor]  # (noisy latents (B, C, h, w), timesteps (B,)) -> velocity (B, C, h, w)


def velocity_loss(predict: Predict, latents: Tensor, rng: StepRNG, times: TimeSampling, schedule_shift: float = 1.0) -> Tensor:
    """Squared error of one predicted velocity for each image, (B,), to be averaged over the images.

    latents: (B, C, h, w), in the transformer's scale. The share sigma of noise moves them on a straight line to noise, at the
    velocity noise - latents. All times count alike: how often each is seen is up to `times`.
    Source: Lipman et al. 2023, arXiv:2210.02747; Esser et al. 2024, arXiv:2403.03206, section 2.
    """
    noise = rng.normal(*latents.shape[1:]).to(latents)
    sigmas = times.sigmas(rng.normal(), schedule_shift).to(latents)  # (B,)
    share = sigmas[:, None, None, None]
    velocity = predict((1 - share) * latents + share * noise, NUM_TRAIN_TIMESTEPS * sigmas).float()
    return (velocity - (noise - latents).float()).square().mean((1, 2, 3))
