"""The discriminators of decoder and UNet, which tell photos from what these generate, and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.models.denoiser import Conditioning

WIDTH = 64  # channels of the first layer, the second of the decoder's has twice as many
SLOPE = 0.2  # of the leaky ReLUs
SCORE_SCALE = 16.0  # three layers of norm 1 would never reach the margin of the hinge loss
LEARNING_RATE_FACTOR = 4.0  # relative to the decoder's: it must keep up, or the decoder overshoots the photos' detail
HEAD_NUM_GROUPS = 16
HEAD_SCORE_SCALE = 4.0  # as SCORE_SCALE; the layers before are normalized to unit variance
HEAD_LEARNING_RATE_FACTOR = 8.0  # relative to the UNet's


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


class DiscriminatorHead(nn.Module):
    """Three convolutions with spectral normalization on one feature map (B, C, h, w) -> a score at each place, (B, 1, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        sizes = ((channels, WIDTH), (WIDTH, WIDTH), (WIDTH, 1))
        convolutions = [nn.Conv2d(*size, 3, padding=1) for size in sizes]
        with torch.no_grad():  # as of PatchDiscriminator
            for layer in convolutions:
                layer.weight /= HEAD_LEARNING_RATE_FACTOR
                if layer.bias is not None:
                    layer.bias /= HEAD_LEARNING_RATE_FACTOR
        self.layers: Any = nn.ModuleList(convolutions)

    def forward(self, features: Tensor, *, trainable: bool) -> Tensor:
        """The scores. trainable: whether gradients reach the weights, or only the features."""
        x = features
        for index, layer in enumerate(self.layers):
            weight, bias = (value if trainable else value.detach() for value in (layer.weight, layer.bias))
            x = F.conv2d(x, weight / largest_singular_value(weight.flatten(1)), bias, padding=1).float()
            if index < len(self.layers) - 1:
                x = F.leaky_relu(F.group_norm(x, HEAD_NUM_GROUPS), SLOPE)
        return HEAD_SCORE_SCALE * x


@dataclass(frozen=True, eq=False)
class UNetFeatures:
    """What a frozen UNet, with an IP-Adapter, finds in noisy latents on its way down."""

    unet: Any

    def __post_init__(self) -> None:
        self.unet.requires_grad_(False)

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each feature map."""
        widths = self.unet.config.block_out_channels
        return (*widths, widths[-1])

    def __call__(self, noisy_latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> list[Tensor]:
        """What each block on the way down finds before it halves the resolution, and what the middle block finds."""
        unet = self.unet
        embedded_time = unet.time_embedding(unet.time_proj(timesteps).to(noisy_latents.dtype))  # (B, E)
        context = unet.process_encoder_hidden_states(
            conditioning.prompts.hidden, {"image_embeds": [conditioning.image_embeddings]}
        )
        x, features = unet.conv_in(noisy_latents), []
        for block in unet.down_blocks:
            x, outputs = block(hidden_states=x, temb=embedded_time, encoder_hidden_states=context)
            features.append(outputs[-2] if block.downsamplers else outputs[-1])
        return [*features, unet.mid_block(x, embedded_time, encoder_hidden_states=context)]


class LatentDiscriminator(nn.Module):
    """Heads on what a frozen UNet finds in noisy latents: are they a photo's, of this prompt and person.

    The UNet is neither trained nor saved with the heads. It has learnt what latents look
    like at each level of noise, for which a network that starts from nothing would need more photos than there are; and the
    noise keeps the heads from learning the photos by heart. Sources: Sauer et al. 2024, arXiv:2403.12015, features of the
    diffusion model itself; Wang et al. 2022, arXiv:2206.02262, noise.
    """

    def __init__(self, unet: Any) -> None:
        super().__init__()
        self.features = UNetFeatures(unet)
        self.heads: Any = nn.ModuleList(DiscriminatorHead(channels) for channels in self.features.channels)

    def scores(self, features: Sequence[Tensor], *, trainable: bool) -> list[Tensor]:
        """The scores of each head. trainable: whether gradients reach the heads' weights."""
        return [head(each, trainable=trainable) for head, each in zip(self.heads, features, strict=True)]


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
