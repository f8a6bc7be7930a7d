"""Image-to-image: an image with noise added is denoised again, by the loop that also generates from pure noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenth.core.types import DiffusionModel
from tenth.sampling.init_latents import InitLatents
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.sampler import FloatImage, OnStep, SamplingBatch, sample_float


def img2img(batch: SamplingBatch, image: FloatImage, strength: float, on_step: OnStep | None = None) -> FloatImage:
    """An image (H, W, 3) with noise added, denoised again at its size. batch: of one image.

    Source: Meng et al. 2021, arXiv:2108.01073 (SDEdit). Computes what diffusers' image-to-image pipelines do, but with the mean
    of the autoencoder's distribution in place of a sample, and with guidance rescaling, which Stable Diffusion 1.5's lacks.
    """
    latents = encode_image(batch.model, image)
    at_size = replace(batch, size=Size(image.shape[1], image.shape[0]), init=InitLatents(latents, strength))
    return sample_float(at_size, on_step)[0]


def encode_image(model: DiffusionModel, image: FloatImage) -> Tensor:
    """An image (H, W, 3) in [0, 1] -> latents (1, C, h, w), in the network's scale."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] * 2 - 1  # (1, 3, H, W)
    return model.encode(pixels)


def resize_to_cover(image: FloatImage, size: Size) -> FloatImage:
    """Resize an image (h, w, 3) with Lanczos' filter until it covers the size, and crop its center: (H, W, 3)."""
    height, width = image.shape[:2]
    if (width, height) == (size.width, size.height):
        return image
    scale = max(size.width / width, size.height / height)
    left, top = (width - size.width / scale) / 2, (height - size.height / scale) / 2
    return resize(image, size.width, size.height, (left, top, width - left, height - top))


def resize(image: FloatImage, width: int, height: int, box: tuple[float, float, float, float] | None = None) -> FloatImage:
    """An image (h, w, 3), or a box of it (left, top, right, bottom), at a size, with Lanczos' filter: (H, W, 3)."""
    channels = [Image.fromarray(np.ascontiguousarray(image[..., number])) for number in range(3)]
    scaled = [channel.resize((width, height), Image.Resampling.LANCZOS, box) for channel in channels]
    return np.stack([np.asarray(channel) for channel in scaled], -1).clip(0, 1)
