"""Which prompts are asked of whom in images that a training step samples."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.rng import StepRNG
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES, parse_prompt_attributes

MALE = FACE_ATTRIBUTES.index("male")
MAX_ATTRIBUTES = 3  # of a caption beside the gender: people ask for one thing, and who is asked for five learns each a little


@dataclass(frozen=True, eq=False)
class PromptSampler:
    """Captions of the training photos as prompts. requested: (N, V, S), what each says of FACE_ATTRIBUTES, 1, 0 or NaN.

    tables: one is drawn for each prompt, the captions that ask for a thing, (K, 2): photo, and which of its captions.
    same_gender: photos whose people may be asked for, by the gender that a photo's captions say: female, male, unsaid.
    """

    requested: Tensor
    tables: tuple[Tensor, ...]
    genders: Tensor
    same_gender: tuple[Tensor, ...]

    @classmethod
    def read(
        cls, captions: Sequence[Sequence[str]], known: Collection[str], hard: Collection[str] = (), hard_weight: int = 1
    ) -> PromptSampler:
        """captions: V of each photo. known: attributes that can be told; of others nothing is asked.

        hard: attributes that are asked for `hard_weight` times as often as others, where captions ask for them.

        Raises DataError if no caption asks for any.
        """
        said = {caption: _requested(caption, known) for caption in {each for of_photo in captions for each in of_photo}}
        requested = torch.tensor([[said[caption] for caption in of_photo] for of_photo in captions])
        beside_gender = requested.clone()
        beside_gender[:, :, MALE] = math.nan
        count = (~beside_gender.isnan()).sum(2)
        few = (count > 0) & (count <= MAX_ATTRIBUTES)
        tables = []
        for index, name in enumerate(FACE_ATTRIBUTES):
            for value in (1, 0):
                asked = few & (beside_gender[:, :, index] == value)
                if asked.any():
                    tables += [asked.nonzero()] * (hard_weight if name in hard and value else 1)
        if not tables:
            found = f"no caption of {len(captions)} photos asks for one to three attributes"
            raise DataError(found, "sampled images need prompts that do", "Give people whose captions were made of attributes")
        if (count == 0).any():
            tables.append((count == 0).nonzero())  # "a photo of a man" must stay good
        genders = requested[:, :, MALE].nanmean(1).round().nan_to_num(2).long()
        same = [torch.where((genders == index) if index < 2 else genders >= 0)[0] for index in range(3)]
        return cls(requested, tuple(tables), genders, tuple(same))

    def captions(self, rng: StepRNG) -> tuple[Tensor, Tensor]:
        """Photos, and which of their captions, (B,) each: what is not hard is drawn as often as nothing."""
        which, places = rng.integers(len(self.tables)), rng.uniform()
        photos, variants = _pick(self.tables, which, places).unbind(1)
        return photos, variants

    def other_people(self, photos: Tensor, rng: StepRNG) -> Tensor:
        """A photo (B,) of anybody of whom the captions of photos (B,) can be asked: of the same gender."""
        return _pick(self.same_gender, self.genders[photos], rng.uniform())


def _pick(tables: Sequence[Tensor], which: Tensor, places: Tensor) -> Tensor:
    """A row of one of the tables for each of B. which: (B,). places: (B,), in [0, 1) from its first row to its last."""
    if not len(which):
        return tables[0][:0]
    return torch.stack([tables[index][int(place * len(tables[index]))] for index, place in zip(which, places, strict=True)])


def _requested(caption: str, known: Collection[str]) -> list[float]:
    said = parse_prompt_attributes(caption)
    return [float(said[name]) if name in said and name in known else math.nan for name in FACE_ATTRIBUTES]
