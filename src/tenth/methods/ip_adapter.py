"""IP-Adapter: photos -> pooled embedding -> identity, and how an untrained adapter begins.

Source: Ye et al. 2023, arXiv:2308.06721.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.types import Aggregator, DiffusionModel, Identity, Person
from tenth.models.aggregators.pooling import (
    concatenation,
    consensus,
    consensus_weights,
    first,
    first_weights,
    maximum,
    mean,
    uniform_weights,
)

PHOTO_WEIGHTS: Mapping[Aggregator, Aggregator] = {first: first_weights, mean: uniform_weights, consensus: consensus_weights}
POOLING_DESCRIPTIONS: Mapping[Aggregator, str] = {
    maximum: "the element-wise maximum of all photos at each place",
    mean: "the mean of all photos at each place",
    consensus: "the mean of all photos at each place, weighted by how their mean tokens agree",
    concatenation: "those of all photos side by side",
}
FACE_MARKER = "face"  # in the name of a published adapter's file: Plus-Face, Full-Face


@dataclass(frozen=True)
class IPAdapter:
    """A method: encode each photo, aggregate, done. Nothing is learnt per person."""

    name: str
    aggregate: Aggregator

    def __call__(self, person: Person, model: DiffusionModel) -> Identity:
        """Raises DataError if the person has no photo."""
        if not person.photos:
            raise DataError(f"{person.name} has no usable photo", "at least one is needed", "Add photos")
        embeddings = self.aggregate(model.encoder(person.photos))  # (M, D) or (M, T, D)
        return Identity(
            method=self.name,
            model=model.name,
            encoder=model.encoder.name,
            adapter=model.adapter_name,
            embeddings=embeddings,
            photos=tuple(photo.digest for photo in person.photos),
        )

    def photo_weights(self, person: Person, model: DiffusionModel) -> Tensor | None:
        """How much each photo counts, (K,), summing to one; None where that cannot be said."""
        return PHOTO_WEIGHTS[self.aggregate](model.encoder(person.photos)) if self.aggregate in PHOTO_WEIGHTS else None

    def warnings(self, person: Person, model: DiffusionModel) -> list[str]:
        """What a user should know: photos that are not used, and what is pooled where it is not one embedding a photo."""
        count, num_tokens, warnings = len(person.photos), model.encoder.num_tokens, []
        if self.aggregate is first and count > 1:
            warnings = [f"{self.name} reads one photo, the first in file-name order: the other {count - 1} are not used"]
        if num_tokens and self.aggregate in POOLING_DESCRIPTIONS and count > 1:
            warnings = [
                f"{self.name} acts on the {num_tokens} patch tokens of each photo: {POOLING_DESCRIPTIONS[self.aggregate]}"
            ]
        if FACE_MARKER in model.adapter_name.partition("@")[0]:
            warnings.append(
                "this adapter was trained on faces alone, and reads photos as they are: give photos cropped to the face"
            )
        return warnings
