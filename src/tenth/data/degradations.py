"""Poor photos made of good ones, so that an aggregator learns what a poor photo is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tenth.core.types import Photo

Box = tuple[int, int, int, int]
Degradation = Callable[[Image.Image, Box, np.random.Generator], Image.Image]

BLUR = (0.04, 0.10)  # radius, as a share of the face's width: from out of focus to hardly anybody
SMALL = (8, 18)  # pixels across the face: a person at the back of a group
HIDDEN = (0.40, 0.60)  # share of the face that something stands before


def blurred(picture: Image.Image, face: Box, random: np.random.Generator) -> Image.Image:
    """Out of focus."""
    return picture.filter(ImageFilter.GaussianBlur(random.uniform(*BLUR) * (face[2] - face[0])))


def small(picture: Image.Image, face: Box, random: np.random.Generator) -> Image.Image:
    """Taken from afar, then enlarged."""
    share = random.uniform(*SMALL) / (face[2] - face[0])
    size = [max(1, round(length * min(share, 1.0))) for length in picture.size]
    return picture.resize((size[0], size[1]), Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)


def hidden(picture: Image.Image, face: Box, random: np.random.Generator) -> Image.Image:
    """A grey thing before one side of the face: left, top, right or bottom."""
    left, top, right, bottom = face
    share, side, grey = random.uniform(*HIDDEN), random.integers(4), int(random.integers(30, 200))
    across, down = share * (right - left), share * (bottom - top)
    boxes: list[tuple[float, float, float, float]] = [(left, top, left + across, bottom), (left, top, right, top + down)]
    boxes += [(right - across, top, right, bottom), (left, bottom - down, right, bottom)]
    covered = picture.copy()
    ImageDraw.Draw(covered).rectangle(boxes[side], fill=(grey, grey, grey))
    return covered


VERSION = 1  # part of the store's keys: to be raised when anything here changes what comes out
DEGRADATIONS: tuple[Degradation, ...] = (blurred, small, hidden)


def degraded(photo: Photo) -> Photo:
    """The photo as a poor one: which way and how much is a pure function of its sha256.

    Where the face stands is taken from the good photo; without one the whole picture counts as the face.
    """
    height, width = photo.pixels.shape[:2]
    random = np.random.default_rng(int(photo.digest[:16], 16))
    box = photo.face.box if photo.face else (0, 0, width, height)
    worse = DEGRADATIONS[random.integers(len(DEGRADATIONS))]
    return replace(photo, pixels=np.ascontiguousarray(worse(Image.fromarray(photo.pixels), box, random)))
