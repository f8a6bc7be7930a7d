"""The decoder's discriminator, a small network that tells patches of photos from generated ones, and its losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64  # channels of the first layer, the second has twice as many
SLOPE = 0.2  # of the leaky ReLUs
SCORE_SCALE = 16.0  # three layers of norm 1 would never reach the margin of the hinge loss
LEARNING_RATE_FACTOR = 4.0  # relative to the decoder's: it must keep up, or the decoder overshoots the photos' detail


class PatchDiscriminator(nn.Module):
    """Three convolutions with spectral normalization: pixels (B, 3, H, W) -> a score for each patch, (B, 1, H/4, W/4).

    A patch is 18 x 18 pixels: too small for a face, enough for an eyelash. Weights are all of its state. Sources: Isola et al.
    2017, arXiv:1611.07004, of patches; Miyato et al. 2018, arXiv:1802.05957, of the normalization.
    """

    def __init__(self) -> None:
        super().__init__()
        sizes: tuple[tuple[int, int, int, int], ...] = ((3, WIDTH, 4, 2), (WIDTH, 2 * WIDTH, 4, 2), (2 * WIDTH, 1, 3, 1))
        convolutions = [nn.Conv2d(*size, padding=1) for size in sizes]
        with torch.no_grad():  # smaller weights are the same when normalized, and a step changes their direction more
            for layer in convolutions:
                layer.weight /= LEARNING_RATE_FACTOR
        self.layers: Any = nn.ModuleList(convolutions)

    def normalized_weights(self) -> list[Tensor]:
        """Weight and bias of each layer in turn, weights divided by their largest singular value."""
        weights: list[Tensor] = []
        for layer in self.layers:
            weights += [layer.weight / largest_singular_value(layer.weight.flatten(1)), layer.bias]
        return weights

    def forward(self, pixels: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Features of each layer, the scores last. weights: of `normalized_weights`, detached where they are not trained."""
        outputs, x = [], pixels
        for index, layer in enumerate(self.layers):
            x = F.conv2d(x, weights[2 * index], weights[2 * index + 1], layer.stride, layer.padding)
            x = F.leaky_relu(x, SLOPE) if index < len(self.layers) - 1 else x
            outputs.append(x)
        return [*outputs[:-1], SCORE_SCALE * outputs[-1]]


def largest_singular_value(matrix: Tensor) -> Tensor:
    """Of (O, I), O <= I, from the largest eigenvalue of its Gram matrix. A scalar."""
    with torch.autocast(matrix.device.type, enabled=False):
        values: Tensor = torch.linalg.eigvalsh(matrix @ matrix.T)
    return values[-1].clamp(min=1e-12).sqrt()


def hinge_loss(photos: Tensor, generated: Tensor) -> Tensor:
    """Photos' scores should be above 1, generated ones below -1. A scalar. Source: Lim and Ye 2017, arXiv:1705.02894."""
    return F.relu(1 - photos).mean() + F.relu(1 + generated).mean()


def feature_matching_loss(generated: Sequence[Tensor], photos: Sequence[Tensor]) -> Tensor:
    """Mean difference of features relative to those of photos. A scalar. Source: Wang et al. 2018, arXiv:1711.11585, 3.2."""
    distances = [
        (one.float() - other.float()).abs().mean() / other.float().abs().mean().clamp(min=1e-6)
        for one, other in zip(generated, photos, strict=True)
    ]
    return torch.stack(distances).mean()
