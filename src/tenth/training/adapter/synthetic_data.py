"""Synthetic people, for trying a recipe out in a minute without data: faces of a few shapes, embeddings with noise."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from PIL import Image, ImageDraw
from pydantic import Field

from tenth.core.config import WholeNumber, config_dataclass
from tenth.core.types import Pixels
from tenth.data.faces.crops import to_minus_one_one
from tenth.training.adapter.dataset import AdapterDataset, EncodedPhotos
from tenth.training.adapter.encoding import BATCH
from tenth.training.flow_matching.frozen_model import FrozenModel

Few = Annotated[int, Field(ge=1, le=1000)]
CAPTIONS = ("", "a photo of a person", "a portrait of a person")
EMBEDDING_NOISE, DEGRADED_NOISE = 0.6, 1.5  # of embeddings, in units of the standard deviation between people


@config_dataclass
class SyntheticPeople:
    """The number of people, and of photos of each. Raises RecipeError for none, or too many."""

    num_people: Few = 8
    photos_per_person: Few = 12
    seed: WholeNumber = 0

    def build_dataset(self, embedding_dim: int, frozen: FrozenModel) -> AdapterDataset:
        """The people's photos with embeddings of `embedding_dim`: the same numbers for the same seed."""
        generator = torch.Generator().manual_seed(self.seed)
        num_photos = self.num_people * self.photos_per_person
        centres = torch.randn(self.num_people, 1, embedding_dim, generator=generator)
        noise = torch.randn(2, self.num_people, self.photos_per_person, embedding_dim, generator=generator)
        rendered = np.stack([self.render(index, frozen.resolution) for index in range(num_photos)])
        frames = torch.from_numpy(rendered).permute(0, 3, 1, 2)  # (N, 3, H, W)
        return AdapterDataset.in_memory(
            EncodedPhotos(
                latent_moments=torch.cat([frozen.encode_with_flip(to_minus_one_one(batch)) for batch in frames.split(BATCH)]),
                embeddings=(centres + EMBEDDING_NOISE * noise[0]).flatten(0, 1),
                degraded_embeddings=(centres + DEGRADED_NOISE * noise[1]).flatten(0, 1),
                caption_indices=torch.arange(1, len(CAPTIONS)).repeat(num_photos, 1),
                prompt_embeddings=frozen.encode_prompts(CAPTIONS),
                num_photos=torch.full((self.num_people,), self.photos_per_person),
                num_captions=torch.full((self.num_people,), len(CAPTIONS) - 1),
            )
        )

    def render(self, index: int, size: int) -> Pixels:
        """A face (size, size, 3): skin, hair and eyes are the person's, position and background the photo's."""
        # The person.
        person = np.random.default_rng([self.seed, index // self.photos_per_person])
        skin, hair, eyes = (tuple(int(value) for value in person.integers(40, 220, 3)) for _ in range(3))
        half_width, half_height = person.uniform(0.22, 0.32), person.uniform(0.30, 0.40)

        # The photo.
        photo = np.random.default_rng([self.seed, 1, index])
        background = tuple(int(value) for value in photo.integers(0, 255, 3))
        x, y = 0.5 + photo.uniform(-0.06, 0.06), 0.5 + photo.uniform(-0.06, 0.06)
        image = Image.new("RGB", (size, size), background)
        draw = ImageDraw.Draw(image)

        # Hair, skin, eyes and mouth.
        draw.ellipse(_box(size, x, y - 0.05, half_width * 1.2, half_height * 1.15), fill=hair)
        draw.ellipse(_box(size, x, y, half_width, half_height), fill=skin)
        for shift in (-0.4, 0.4):
            draw.ellipse(_box(size, x + shift * half_width, y - 0.15 * half_height, 0.035, 0.025), fill=eyes)
        draw.ellipse(_box(size, x, y + 0.5 * half_height, 0.4 * half_width, 0.03), fill=(150, 60, 60))
        return np.asarray(image)


def _box(size: int, x: float, y: float, half_width: float, half_height: float) -> tuple[float, float, float, float]:
    return (size * (x - half_width), size * (y - half_height), size * (x + half_width), size * (y + half_height))
