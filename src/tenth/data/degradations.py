"""Degrade photos (blur, downscale, occlude), so that an aggregator learns to give poor photos less weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tenth.core.types import Photo

Box = tuple[int, int, int, int]
Degradation = Callable[[Image.Image, Box, np.random.Generator], Image.Image]

BLUR_RADIUS = (0.04, 0.10)  # as a fraction of the face's width: from out of focus to unrecognisable
SMALL_FACE_PIXELS = (8, 18)  # across the face: a person at the back of a group
OCCLUDED_FRACTION = (0.40, 0.60)  # of the face's width or height


def blur(image: Image.Image, face: Box, rng: np.random.Generator) -> Image.Image:
    """Blur, as if out of focus."""
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(*BLUR_RADIUS) * (face[2] - face[0])))


def downscale(image: Image.Image, face: Box, rng: np.random.Generator) -> Image.Image:
    """Reduce and enlarge again, as if taken from afar."""
    scale = rng.uniform(*SMALL_FACE_PIXELS) / (face[2] - face[0])
    size = [max(1, round(length * min(scale, 1.0))) for length in image.size]
    return image.resize((size[0], size[1]), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def occlude(image: Image.Image, face: Box, rng: np.random.Generator) -> Image.Image:
    """Cover one side of the face (left, top, right or bottom) with a grey rectangle."""
    left, top, right, bottom = face
    fraction, edge, grey = rng.uniform(*OCCLUDED_FRACTION), rng.integers(4), int(rng.integers(30, 200))
    across, down = fraction * (right - left), fraction * (bottom - top)
    boxes: list[tuple[float, float, float, float]] = [(left, top, left + across, bottom), (left, top, right, top + down)]
    boxes += [(right - across, top, right, bottom), (left, bottom - down, right, bottom)]
    occluded = image.copy()
    ImageDraw.Draw(occluded).rectangle(boxes[edge], fill=(grey, grey, grey))
    return occluded


DEGRADATION_VERSION = 1  # part of cache keys: increase it whenever the result changes
DEGRADATIONS: tuple[Degradation, ...] = (blur, downscale, occlude)


def degrade(photo: Photo) -> Photo:
    """A degraded copy of the photo. Kind and strength are a pure function of the photo's sha256.

    The face's box comes from the original photo; without a face it is the whole image.
    """
    height, width = photo.pixels.shape[:2]
    rng = np.random.default_rng(int(photo.digest[:16], 16))
    box = photo.face.box if photo.face else (0, 0, width, height)
    degradation = DEGRADATIONS[rng.integers(len(DEGRADATIONS))]
    return replace(photo, pixels=np.ascontiguousarray(degradation(Image.fromarray(photo.pixels), box, rng)))
