"""IP-Adapter without training: photos -> embeddings -> pooled embedding -> identity (Ye et al. 2023, arXiv:2308.06721)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tenth.core.errors import ModelError
from tenth.core.types import Aggregator, DiffusionModel, Identity, MethodResult, Person
from tenth.models.aggregators import pooling
from tenth.models.aggregators.leave_one_out import PoolSome, leave_one_out_distances

SHARES: Mapping[Aggregator, Callable[..., Tensor]] = {
    pooling.first: pooling.first_weights,
    pooling.mean: pooling.uniform_weights,
    pooling.consensus: pooling.consensus_weights,
}
# Why a way of pooling takes no weights of photos.
TAKES_NO_WEIGHTS: Mapping[Aggregator, str] = {
    pooling.first: "it reads one photo",
    pooling.maximum: "the maximum takes each number from one photo, and no share of any",
    pooling.concatenation: "the tokens of all photos stand side by side, and the model decides how much it reads of each",
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
    aggregate: Callable[..., Tensor]
    tunes_model = keeps_photos = False

    def is_available(self, model: DiffusionModel) -> bool:
        return bool(model.adapter_name)

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """Raises DataError if the person has no photo, ModelError if the model has no adapter."""
        photos, pool = person.require_photos(), self._pool(person)
        if not self.is_available(model):
            others = ["photos-in-context"] * (model.max_context_photos > 0) + ["dreambooth-lora"]
            action = f"Give an adapter's file as --adapter, or choose {' or '.join(others)}"
            raise ModelError(f"{model.name.partition('@')[0]} has no adapter", f"{self.name} needs one", action)
        embeddings = model.encoder(photos)  # (K, D) or (K, T, D)
        identity = Identity(
            method=self.name,
            model=model.name,
            encoder=model.encoder.name,
            adapter=model.adapter_name,
            embeddings=pool(embeddings, list(range(len(photos)))),  # (M, D) or (M, T, D)
            photos=tuple(photo.digest for photo in photos),
            photo_weights=person.photo_weights or (),
        )
        shares_of = SHARES.get(self.aggregate)
        shares = None if shares_of is None else shares_of(embeddings, **self._weights(person, list(range(len(photos)))))  # (K,)
        distances = partial(leave_one_out_distances, embeddings, pool) if len(photos) > 1 else None
        return MethodResult(identity, shares, self._warnings(len(photos), model), distances)

    def _pool(self, person: Person) -> PoolSome:
        """Some of the person's photos -> (M, D) or (M, T, D). Raises DataError for weights that this pooling does not take."""
        if self.aggregate in TAKES_NO_WEIGHTS:
            person.require_equal_weights(self.name, TAKES_NO_WEIGHTS[self.aggregate])
        return lambda embeddings, photos: self.aggregate(embeddings[photos], **self._weights(person, photos))

    def _weights(self, person: Person, photos: Sequence[int]) -> dict[str, Tensor]:
        """The argument `weights` of a way of pooling some of the photos, if they do not count alike."""
        weights = person.photo_weights
        return {} if weights is None else {"weights": torch.tensor([weights[photo] for photo in photos], dtype=torch.float64)}

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
