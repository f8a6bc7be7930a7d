"""What a step of sampling tells whoever asks: its number, and a small image of what it leads to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import DiffusionModel, Pixels
from tenth.models.denoiser import predict_x0


@dataclass(frozen=True, eq=False)
class Step:
    """A step of denoising that is done. number: from 1, of `total`. The rest is what a preview is computed from, if asked for.

    scaled_latents: (B, C, h, w), what the network was given. prediction: (B, C, h, w), guided. timestep: of the two.
    """

    number: int
    total: int
    model: DiffusionModel
    scaled_latents: Tensor
    prediction: Tensor
    timestep: Tensor
    scheduler: Any

    @torch.no_grad()
    def preview(self) -> list[Pixels]:
        """A small image (h, w, 3) of each of the batch: what the network now expects."""
        # The latents without noise that the prediction implies.
        config = self.scheduler.config
        training_step = self.timestep.round().long().clamp(0, int(config.num_train_timesteps) - 1).cpu()
        alphas_cumprod = self.scheduler.alphas_cumprod[training_step].to(self.prediction.device).clamp(min=1e-6)
        latents = predict_x0(
            self.scaled_latents, self.prediction, alphas_cumprod.expand(len(self.prediction)), config.prediction_type
        )

        images = (self.model.decode_preview(latents).float().nan_to_num() / 2 + 0.5).clamp(0, 1)
        return [np.rint(image * 255).astype(np.uint8) for image in images.permute(0, 2, 3, 1).cpu().numpy()]
