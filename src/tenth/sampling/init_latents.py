"""Latents that sampling starts from instead of pure noise, and the part of them that a mask keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tenth.sampling.noise import add_noise, pure_noise


@dataclass(frozen=True, eq=False)
class InitLatents:
    """Latents (B, C, h, w), in the network's scale, to which noise is added.

    strength: fraction of the noise, and of the steps, the last ones, that are taken. mask: (B, 1, h, w), 1 where the latents
    are made anew and 0 where they are kept; None: all are made anew.
    """

    latents: Tensor
    strength: float
    mask: Tensor | None = None

    def select(self, selected: slice) -> InitLatents:
        """Those of some images of the batch."""
        return replace(self, latents=self.latents[selected], mask=None if self.mask is None else self.mask[selected])

    def noised(self, scheduler: Any, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noisy latents (B, C, h, w) of the first of the timesteps (S,). With a mask and strength 1: pure noise."""
        if self.mask is not None and self.strength == 1:
            return pure_noise(scheduler, noise)
        return add_noise(scheduler, self.latents, noise, timesteps[:1])

    def keep_unmasked(self, latents: Tensor, scheduler: Any, noise: Tensor, next_timestep: Tensor) -> Tensor:
        """Latents after a step, (B, C, h, w), with the kept ones as noisy as the next timestep, (1,) or (0,), has them.

        Source: Lugmayr et al. 2022, arXiv:2201.09865, equation 8, without resampling, as diffusers' inpainting pipeline has it.
        """
        if self.mask is None:
            return latents
        kept = add_noise(scheduler, self.latents, noise, next_timestep) if len(next_timestep) else self.latents
        return torch.where(self.mask > 0, latents, kept.to(latents.dtype))
