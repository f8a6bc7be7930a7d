"""Photos in context, before a network reads them: reduced, cut, and as numbers."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tenth.core.types import Pixels

MAX_PHOTO_PIXELS = 1024 * 1024  # of a photo in context: a larger one is reduced


def reduce_to(photo: Pixels, max_pixels: int = MAX_PHOTO_PIXELS) -> Pixels:
    """A photo (H, W, 3) of at most so many pixels."""
    image = Image.fromarray(photo)
    if image.width * image.height <= max_pixels:
        return photo
    scale = math.sqrt(max_pixels / (image.width * image.height))
    return _resized(image, int(image.width * scale), int(image.height * scale))


def crop_to_multiple(photo: Pixels, multiple: int) -> Pixels:
    """The middle of a photo (H, W, 3), whose sides are multiples of a number."""
    (height, width), (top, left) = photo.shape[:2], ((side % multiple) // 2 for side in photo.shape[:2])
    return photo[top : top + height // multiple * multiple, left : left + width // multiple * multiple]


def resize_to_area(photo: Pixels, area: int, multiple: int) -> Pixels:
    """A photo (H, W, 3) of about so many pixels, of nearly its own shape, with sides that are multiples of a number."""
    image = Image.fromarray(photo)
    ratio = image.width / image.height
    width = math.sqrt(area * ratio)
    return _resized(image, *(round(side / multiple) * multiple for side in (width, width / ratio)))


def to_pixels(photo: Pixels) -> Tensor:
    """A photo (H, W, 3) as an autoencoder takes it: (1, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].float() / 255 * 2 - 1


def _resized(image: Image.Image, width: int, height: int) -> Pixels:
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))
