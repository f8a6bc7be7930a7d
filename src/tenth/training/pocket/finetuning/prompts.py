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
    def from_captions(
        cls, captions: Sequence[Sequence[str]], known: Collection[str], hard: Collection[str] = (), hard_weight: int = 1
    ) -> PromptSampler:
        """captions: V of each photo. known: attributes that can be classified; no prompt counts as one that requests others.

        hard: attributes that are requested in `hard_weight` times as many prompts as others.

        Raises DataError if no caption requests one to three of them, or none a hard one.
        """
        # What each caption requests. A gender is said beside all else, and known of people whatever heads tell.
        expressed = {caption: _expressed(caption) for caption in {each for of_photo in captions for each in of_photo}}
        requested = torch.tensor([[expressed[caption] for caption in of_photo] for of_photo in captions])
        genders = requested[:, :, MALE].nanmean(1).round().nan_to_num(2).long()
        requested[:, :, [name not in known for name in FACE_ATTRIBUTES]] = math.nan
        beside_gender = requested.clone()
        beside_gender[:, :, MALE] = math.nan
        count = (~beside_gender.isnan()).sum(2)

        # A table for each attribute, requested or excluded; "a photo of a man" must stay good, too.
        tables, missing = [], set(hard)
        for index, name in enumerate(FACE_ATTRIBUTES):
            for value in (1, 0):
                table = ((count <= MAX_ATTRIBUTES) & (beside_gender[:, :, index] == value)).nonzero()
                if len(table):
                    tables += [table] * (hard_weight if name in hard and value else 1)
                    missing -= {name} if value else set()
        if not tables or missing:
            attributes = ", ".join(sorted(missing)) or f"one to three of {', '.join(sorted(known)) or 'no attributes'}"
            found = f"no caption of {len(captions)} photos requests {attributes}"
            needed = "sampled images need prompts that do, of attributes that the heads tell well enough"
            raise DataError(found, needed, "Give people whose captions were made of attributes, or train the heads longer")
        if (count == 0).any():
            tables.append((count == 0).nonzero())

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


def _expressed(caption: str) -> list[float]:
    attributes = parse_prompt_attributes(caption)
    return [float(attributes.get(name, math.nan)) for name in FACE_ATTRIBUTES]
