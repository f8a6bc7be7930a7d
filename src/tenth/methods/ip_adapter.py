"""IP-Adapter without training: photos -> embeddings -> pooled embedding -> identity (Ye et al. 2023, arXiv:2308.06721)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tenth.core.types import Aggregator, DiffusionModel, Identity, MethodResult, Person
from tenth.models.aggregators import pooling

PHOTO_WEIGHTS: Mapping[Aggregator, Aggregator] = {
    pooling.first: pooling.first_weights,
    pooling.mean: pooling.uniform_weights,
    pooling.consensus: pooling.consensus_weights,
}
POOLING_DESCRIPTIONS: Mapping[Aggregator, str] = {
    pooling.maximum: "the element-wise maximum of all photos at each place",
    pooling.mean: "the mean of all photos at each place",
    pooling.consensus: "the mean of all photos at each place, weighted by how their mean tokens agree",
    pooling.concatenation: "those of all photos side by side",
}


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
        if self.aggregate is pooling.first and count > 1:
            warnings.append(f"{self.name} reads one photo, the first in file-name order: the other {count - 1} are not used")
        num_tokens = model.encoder.num_tokens
        if num_tokens and self.aggregate in POOLING_DESCRIPTIONS and count > 1:
            description = POOLING_DESCRIPTIONS[self.aggregate]
            warnings.append(f"{self.name} acts on the {num_tokens} patch tokens of each photo: {description}")
        if "face" in model.adapter_name.partition("@")[0]:  # as in the file names of Plus-Face and Full-Face
            remark = "this adapter was trained on faces alone, and reads photos as they are"
            warnings.append(f"{remark}: give photos cropped to the face")
        return tuple(warnings)
