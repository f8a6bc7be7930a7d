"""IP-Adapter without training: photos -> embeddings -> one pooled embedding -> identity.

Source: Ye et al. 2023, arXiv:2308.06721.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenth.core.types import Aggregator, DiffusionModel, Identity, MethodResult, Person
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
FACE_MARKER = "face"  # in the file names of published adapters trained on cropped faces: Plus-Face, Full-Face


@dataclass(frozen=True)
class IPAdapter:
    """A method: encode each photo and pool the embeddings. Nothing is trained."""

    name: str
    aggregate: Aggregator
    tunes_model = False

    def is_available(self, model: DiffusionModel) -> bool:  # noqa: ARG002 - every model comes with an adapter
        return True

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """Raises DataError if the person has no photo."""
        photos = person.require_photos()
        embeddings = model.encoder(photos)  # (K, D) or (K, T, D)
        identity = Identity(
            method=self.name,
            model=model.name,
            encoder=model.encoder.name,
            adapter=model.adapter_name,
            embeddings=self.aggregate(embeddings),  # (M, D) or (M, T, D)
            photos=tuple(photo.digest for photo in photos),
        )
        weights_of = PHOTO_WEIGHTS.get(self.aggregate)
        photo_weights = None if weights_of is None else weights_of(embeddings)  # (K,)
        return MethodResult(identity, photo_weights, self._warnings(len(photos), model))

    def _warnings(self, count: int, model: DiffusionModel) -> tuple[str, ...]:
        """Which photos are not used, how patch tokens are pooled, and whether the adapter needs cropped photos."""
        warnings = []
        if self.aggregate is first and count > 1:
            warnings.append(f"{self.name} reads one photo, the first in file-name order: the other {count - 1} are not used")
        num_tokens = model.encoder.num_tokens
        if num_tokens and self.aggregate in POOLING_DESCRIPTIONS and count > 1:
            pooling = POOLING_DESCRIPTIONS[self.aggregate]
            warnings.append(f"{self.name} acts on the {num_tokens} patch tokens of each photo: {pooling}")
        if FACE_MARKER in model.adapter_name.partition("@")[0]:
            warnings.append(
                "this adapter was trained on faces alone, and reads photos as they are: give photos cropped to the face"
            )
        return tuple(warnings)
