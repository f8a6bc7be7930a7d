"""People who are drawn, for trying a recipe out in a minute, without data: a face of a few shapes, an embedding with noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tenth.core.errors import RecipeError
from tenth.core.types import Pixels
from tenth.data.face_crops import to_unit
from tenth.training.adapter.dataset import BATCH, Album
from tenth.training.frozen_diffusion import Frozen

MOST = 1000
CAPTIONS = ("", "a photo of a person", "a portrait of a person")
NOISE, WORSE = 0.6, 1.5  # of an embedding, in units of the person's own deviation from the average


@dataclass(frozen=True)
class ToyPeople:
    """How many people are drawn, and how many photos of each. Raises RecipeError for more than a try-out takes, or none."""

    people: int = 8
    photos: int = 12
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("people", "photos"):
            if not 1 <= getattr(self, name) <= MOST:
                raise RecipeError(f"toy {name} are {getattr(self, name)}", f"needed: 1 to {MOST}", "Correct the recipe")

    def album(self, width: int, frozen: Frozen) -> Album:
        """Their photos with embeddings of `width`, made anew each time: the same numbers for the same seed."""
        random = torch.Generator().manual_seed(self.seed)
        number = self.people * self.photos
        centres = torch.randn(self.people, 1, width, generator=random)
        noise = torch.randn(2, self.people, self.photos, width, generator=random)
        frames = torch.from_numpy(np.stack([self.drawn(index, frozen.pixels) for index in range(number)])).permute(0, 3, 1, 2)
        return Album(
            files=tuple(f"toy-{index // self.photos}/{index % self.photos}" for index in range(number)),
            moments=torch.cat([_moments(frozen, batch) for batch in frames.split(BATCH)]),
            embeddings=(centres + NOISE * noise[0]).flatten(0, 1),
            poor=(centres + WORSE * noise[1]).flatten(0, 1),
            captions=torch.arange(1, len(CAPTIONS)).repeat(number, 1),
            texts=frozen.encode_prompts(CAPTIONS),
            first=torch.arange(0, number, self.photos),
            count=torch.full((self.people,), self.photos),
        )

    def drawn(self, index: int, side: int) -> Pixels:
        """A face (side, side, 3): skin, hair and eyes are the person's, place and ground the photo's."""
        person = np.random.default_rng([self.seed, index // self.photos])
        skin, hair, eyes = (tuple(int(value) for value in person.integers(40, 220, 3)) for _ in range(3))
        wide, high = person.uniform(0.22, 0.32), person.uniform(0.30, 0.40)
        photo = np.random.default_rng([self.seed, 1, index])
        ground = tuple(int(value) for value in photo.integers(0, 255, 3))
        x, y = 0.5 + photo.uniform(-0.06, 0.06), 0.5 + photo.uniform(-0.06, 0.06)
        picture = Image.new("RGB", (side, side), ground)
        draw = ImageDraw.Draw(picture)
        draw.ellipse(_box(side, x, y - 0.05, wide * 1.2, high * 1.15), fill=hair)
        draw.ellipse(_box(side, x, y, wide, high), fill=skin)
        for shift in (-0.4, 0.4):
            draw.ellipse(_box(side, x + shift * wide, y - 0.15 * high, 0.035, 0.025), fill=eyes)
        draw.ellipse(_box(side, x, y + 0.5 * high, 0.4 * wide, 0.03), fill=(150, 60, 60))
        return np.asarray(picture)


def _box(side: int, x: float, y: float, wide: float, high: float) -> tuple[float, float, float, float]:
    return (side * (x - wide), side * (y - high), side * (x + wide), side * (y + high))


def _moments(frozen: Frozen, frames: Tensor) -> Tensor:
    pixels = to_unit(frames)
    return torch.stack([frozen.encode_pixels(pixels), frozen.encode_pixels(pixels.flip(-1))], 1).float().cpu()
