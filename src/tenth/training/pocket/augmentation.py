"""Augmentation of photos; the model is conditioned on it, so that it learns from more photos and generates unchanged ones.

Source: Karras et al. 2022, arXiv:2206.00364, appendix F.2, and Jun et al. 2020, "Distribution augmentation".
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from tenth.core.config import Fraction, NonNegative, config_dataclass

NUM_AUGMENTATIONS = 7  # parameters of an augmentation; all zero: none
LUMA_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in the gray value


@config_dataclass
class Augmentation:
    """The largest change of each kind, in either direction."""

    p_apply: Fraction = 0.0  # of the images are changed, in all of these ways
    max_rotation: NonNegative = 12.0  # degrees
    max_zoom: NonNegative = 0.2  # of the size: from 0.8 to 1.2
    max_translation: NonNegative = 0.1  # of the side, across and down
    max_brightness: NonNegative = 0.2  # added, of half the range
    max_contrast: NonNegative = 0.3  # around the middle grey
    max_saturation: NonNegative = 0.5  # saturation, around grey

    def __call__(self, pixels: Tensor, amounts: Tensor) -> Tensor:
        """Augment pixels (B, 3, H, W) in [-1, 1] by amounts (B, NUM_AUGMENTATIONS) in [-1, 1], 0 for no change."""
        # Rotate, zoom and shift.
        rotation, zoom, shift_x, shift_y, brightness, contrast, saturation = amounts.float().unbind(1)
        angle, scale = rotation * math.radians(self.max_rotation), 1 + zoom * self.max_zoom
        cosine, sine = angle.cos() / scale, angle.sin() / scale
        rows = [cosine, -sine, 2 * shift_x * self.max_translation, sine, cosine, 2 * shift_y * self.max_translation]
        grid = F.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(pixels.shape), align_corners=False)
        warped = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)

        # Saturation, contrast and brightness.
        changes = (saturation * self.max_saturation, contrast * self.max_contrast, brightness * self.max_brightness)
        saturation, contrast, brightness = (change[:, None, None, None] for change in changes)
        gray = (warped * torch.tensor(LUMA_WEIGHTS, device=warped.device)[:, None, None]).sum(1, keepdim=True)
        saturated = gray + (warped - gray) * (1 + saturation)
        return (saturated * (1 + contrast) + brightness).clamp(-1, 1)


def add_augmentation_conditioning(unet: UNet2DConditionModel) -> None:
    """Condition a UNet on the augmentation by a layer of zeros in its `timestep_cond`, which need not be exported."""
    layer = nn.Linear(NUM_AUGMENTATIONS, unet.time_embedding.linear_1.in_features, bias=False)
    nn.init.zeros_(layer.weight)
    unet.time_embedding.cond_proj = layer
