"""Pixels <-> latents in the UNet's scale, by a pipeline's autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

MAX_UNTILED_PIXELS = 1024 * 1024  # the autoencoder processes larger images in tiles, if it can


def to_unet_scale(vae: Any, latents: Tensor) -> Tensor:
    """The autoencoder's latents (B, C, h, w) in the scale in which the UNet is trained: about unit variance."""
    mean, std = _statistics(vae, latents)
    return (latents - mean) / std * float(vae.config.scaling_factor)


def from_unet_scale(vae: Any, latents: Tensor) -> Tensor:
    """The inverse of `to_unet_scale`."""
    mean, std = _statistics(vae, latents)
    return latents / float(vae.config.scaling_factor) * std + mean


def _statistics(vae: Any, latents: Tensor) -> tuple[Tensor | float, Tensor | float]:
    """Mean and standard deviation of each channel, (1, C, 1, 1), where the autoencoder's configuration has both."""
    mean, std = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return getattr(vae.config, "shift_factor", None) or 0.0, 1.0
    channel_mean, channel_std = (latents.new_tensor(values).view(1, -1, 1, 1) for values in (mean, std))
    return channel_mean, channel_std


@torch.no_grad()
def encode(vae: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> the mean of the distribution of latents (B, C, h, w), in the UNet's scale."""
    return to_unet_scale(vae, encode_unscaled(vae, pixels))


@torch.no_grad()
def decode(vae: Any, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) in the UNet's scale -> (B, 3, H, W), about [-1, 1]. Large images are decoded in tiles."""
    with _without_overflow(vae):
        return decode_unscaled(vae, from_unet_scale(vae, latents.to(vae.dtype)))


@torch.no_grad()
def encode_unscaled(vae: Any, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> the mean of the distribution of latents (B, C, h, w), in the autoencoder's own scale."""
    with _without_overflow(vae), _tiled(vae, enabled=pixels[0, 0].numel() > MAX_UNTILED_PIXELS):
        output = vae.encode(pixels.to(vae.dtype))
    mean: Tensor = output.latent_dist.mode() if "latent_dist" in output else output.latents
    return mean


@torch.no_grad()
def decode_unscaled(vae: Any, latents: Tensor) -> Tensor:
    """Latents (B, C, h, w) in the autoencoder's own scale -> (B, 3, H, W). Large images are decoded in tiles."""
    with _without_overflow(vae), _tiled(vae, enabled=exceeds_untiled(vae, latents)):
        pixels: Tensor = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
    return pixels


def exceeds_untiled(vae: Any, latents: Tensor) -> bool:
    """Whether latents (B, C, h, w) are those of an image so large that it is decoded in tiles."""
    pixels_per_side = getattr(vae, "spatial_compression_ratio", None) or 2 ** (len(vae.config.block_out_channels) - 1)
    return bool(latents.shape[-2] * latents.shape[-1] * pixels_per_side**2 > MAX_UNTILED_PIXELS)


@contextmanager
def _without_overflow(vae: Any) -> Iterator[None]:
    """Inside, an autoencoder in float16 whose activations overflow in it, as SDXL's, is in float32."""
    overflows = vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False)
    if overflows:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if overflows:
            vae.to(torch.float16)


@contextmanager
def _tiled(vae: Any, *, enabled: bool) -> Iterator[None]:
    """Inside, the autoencoder works in tiles, if enabled and it supports them."""
    change = enabled and hasattr(vae, "enable_tiling") and not vae.use_tiling
    if change:
        vae.enable_tiling()
    try:
        yield
    finally:
        if change:
            vae.disable_tiling()
