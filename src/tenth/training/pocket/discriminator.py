"""What the decoder learns against: a small network that tells patches of photos from drawn ones, and what it looks at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH = 64  # channels of the first layer, the second has twice as many
SLOPE = 0.2  # of the leaky rectifiers
SCORE_SCALE = 16.0  # of the scores: three layers that stretch by one at most would never come near the margin of the hinge
LEARNING_RATE_FACTOR = (
    4.0  # how many times as far a step turns the weights as the decoder's: it must keep up, or the decoder runs past photos
)


class PatchDiscriminator(nn.Module):
    """Three convolutions, spectrally normalised: pixels (B, 3, H, W) -> a score for each patch, (B, 1, H/4, W/4).

    A score looks at 18 x 18 pixels: too few for a face, enough for an eyelash. Its weights are all that it keeps between
    steps: the largest singular values are computed anew, not carried along. Source: Isola et al. 2017, arXiv:1611.07004, of the
    patches; Miyato et al. 2018, arXiv:1802.05957, of the normalisation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(3, WIDTH, 4, stride=2, padding=1),
                nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1),
                nn.Conv2d(2 * WIDTH, 1, 3, padding=1),
            ]
        )
        with torch.no_grad():  # smaller weights are the same normalised, and a step of one size turns them further
            for layer in self.layers:
                assert isinstance(layer, nn.Conv2d)
                layer.weight /= LEARNING_RATE_FACTOR

    def normalized_weights(self) -> list[Tensor]:
        """Weight and bias of each layer in turn, with a largest singular value of 1."""
        weights: list[Tensor] = []
        for layer in self.layers:
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            weights += [layer.weight / largest_singular_value(layer.weight.flatten(1)), layer.bias]
        return weights

    def forward(self, pixels: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """What each layer finds, the scores last. weights: as `weights` gives them, detached where they shall not learn."""
        outputs, x = [], pixels
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Conv2d)
            x = F.conv2d(x, weights[2 * index], weights[2 * index + 1], layer.stride, layer.padding)
            x = F.leaky_relu(x, SLOPE) if index < len(self.layers) - 1 else x
            outputs.append(x)
        return [*outputs[:-1], SCORE_SCALE * outputs[-1]]


def largest_singular_value(matrix: Tensor) -> Tensor:
    """Of (O, I), O being the smaller: the root of the largest eigenvalue of its Gram matrix. A scalar."""
    with torch.autocast(matrix.device.type, enabled=False):
        values: Tensor = torch.linalg.eigvalsh(matrix @ matrix.T)
    return values[-1].clamp(min=1e-12).sqrt()


def hinge_loss(photos: Tensor, generated: Tensor) -> Tensor:
    """What the discriminator's scores lack to be above 1 for photos and below -1 for drawn patches. A scalar.

    Source: Lim and Ye 2017, arXiv:1705.02894.
    """
    return F.relu(1 - photos).mean() + F.relu(1 + generated).mean()


def feature_matching_loss(generated: Sequence[Tensor], photos: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference of what layers find, in units of what they find in photos. A scalar.

    Source: Wang et al. 2018, arXiv:1711.11585, section 3.2.
    """
    distances = [
        (one.float() - other.float()).abs().mean() / other.float().abs().mean().clamp(min=1e-6)
        for one, other in zip(generated, photos, strict=True)
    ]
    return torch.stack(distances).mean()
