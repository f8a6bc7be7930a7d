"""An image of one shape in a size of another, whole: its edges go on in their own colors, blurred more and more."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from tenth.sampling.passes.img2img import resize
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.sampler import FloatImage

BLUR_RADII = (1 / 64, 1 / 24, 1 / 10)  # of the image's shorter side: each takes over from the one before, further outside
FADE_RADII = 2.5  # how many radii from the edge a blur has taken over


def resize_and_pad(image: FloatImage, size: Size) -> FloatImage:
    """Resize an image (h, w, 3) until it fits into the size, and continue its edges to the size: (H, W, 3).

    Chosen by eye, on images of the pocket model (docs/decisions/0010-generate.md).
    """
    # The image whole, in the middle.
    scale = min(size.width / image.shape[1], size.height / image.shape[0])
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    inner = image if scale == 1 else resize(image, width, height)
    left, top = (size.width - width) // 2, (size.height - height) // 2
    below, right = size.height - height - top, size.width - width - left
    continued = np.pad(inner, ((top, below), (left, right), (0, 0)), mode="edge")

    # Distance of each pixel from the image, in pixels; then one blur after the other, none of them inside.
    columns, rows = np.arange(size.width), np.arange(size.height)[:, None]
    across = np.maximum(left - columns, columns - (left + width - 1))
    down = np.maximum(top - rows, rows - (top + height - 1))
    distance = np.maximum(across, down).clip(0)[..., None].astype(np.float32)  # (H, W, 1)
    padded: FloatImage = continued
    for radius in (fraction * min(width, height) for fraction in BLUR_RADII):
        weight = (distance / (FADE_RADII * radius)).clip(0, 1)
        padded = (padded * (1 - weight) + _blur(continued, radius) * weight).astype(np.float32)
    return padded


def _blur(image: FloatImage, radius: float) -> FloatImage:
    """Blurred in 8 bits, which is all that Pillow's filter takes."""
    blurred = Image.fromarray((image * 255).round().astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32) / np.float32(255)
