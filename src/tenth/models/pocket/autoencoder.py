"""The pocket model's autoencoder: 128 x 128 faces <-> 8 x 16 x 16 latents.

It begins and ends with a 4 x 4 pixel shuffle, so that no layer runs at full resolution: on two CPU cores it is
2.5 times as fast as diffusers' AutoencoderTiny (benchmarks/pocket_autoencoder.py; docs/decisions/0002-autoencoder.md).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

SHUFFLE_FACTOR = 4  # pixels on a side that become channels


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(norm(x)))), the identity at the start. (B, C, H, W) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(16, width)
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.second(F.silu(self.first(self.norm(x))))
        return x + residual


class PocketAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """An autoencoder that diffusers' pipelines take as their `vae`. Latents are near unit variance: scaling_factor is 1.

    widths: channels at a quarter, and at an eighth of the resolution. Pipelines take the compression from block_out_channels.
    single_square: it is trained at one size, and generates no other (LatentDiffusion.trained_resolutions).
    """

    single_square = True

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        widths: tuple[int, int] = (96, 128),
        encoder_blocks: tuple[int, int] = (2, 2),
        decoder_blocks: tuple[int, int] = (4, 3),
        latent_channels: int = 8,
        scaling_factor: float = 1.0,  # noqa: ARG002 - registered, and read by pipelines
        block_out_channels: tuple[int, ...] = (3, 3, 96, 128),  # noqa: ARG002 - the same
    ) -> None:
        super().__init__()
        quarter, eighth = widths
        patch = 3 * SHUFFLE_FACTOR**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(SHUFFLE_FACTOR),  # (B, 48, H/4, W/4)
            nn.Conv2d(patch, quarter, 3, padding=1),
            *(ResidualBlock(quarter) for _ in range(encoder_blocks[0])),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),  # (B, eighth, H/8, W/8)
            *(ResidualBlock(eighth) for _ in range(encoder_blocks[1])),
            nn.Conv2d(eighth, latent_channels, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, eighth, 3, padding=1),
            *(ResidualBlock(eighth) for _ in range(decoder_blocks[0])),
            nn.Conv2d(eighth, 4 * quarter, 3, padding=1),
            nn.PixelShuffle(2),  # (B, quarter, H/4, W/4)
            *(ResidualBlock(quarter) for _ in range(decoder_blocks[1])),
            nn.Conv2d(quarter, patch, 3, padding=1),
            nn.PixelShuffle(SHUFFLE_FACTOR),  # (B, 3, H, W)
        )

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderTinyOutput | tuple[Tensor]:
        """(B, 3, H, W) in [-1, 1] -> latents (B, 8, H/8, W/8); deterministic."""
        latents = self.encoder(x)
        return AutoencoderTinyOutput(latents=latents) if return_dict else (latents,)

    def decode(
        self,
        z: Tensor,
        return_dict: bool = True,
        generator: torch.Generator | None = None,  # noqa: ARG002 - pipelines pass one
    ) -> DecoderOutput | tuple[Tensor]:
        """Latents (B, 8, H/8, W/8) -> (B, 3, H, W), about [-1, 1]. generator: taken as pipelines pass one; nothing is drawn."""
        sample = self.decoder(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)
