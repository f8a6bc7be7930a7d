"""Methods with an aggregator that was trained once, on many people: photos -> aggregated embeddings -> identity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from tenth.core.errors import IdentityError, ModelError
from tenth.core.types import DiffusionModel, Identity, MethodResult, Person
from tenth.models.adapters.ip_adapter import ADAPTER_FILE
from tenth.models.aggregators.checkpoint import (
    AGGREGATOR_FILE,
    AggregatorCheckpoint,
    load_aggregator,
    require_pooled_embeddings,
)
from tenth.models.aggregators.leave_one_out import leave_one_out_distances


@dataclass(frozen=True)
class TrainedAdapter:
    """A method: encode each photo, pool with a trained aggregator. folder: of `tenth train`; None: the one of the model."""

    name: str
    folder: Path | None = None
    tunes_model = keeps_photos = False

    def is_available(self, model: DiffusionModel) -> bool:
        return self.folder is not None or self.name in model.trained_methods

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """Raises DataError if the person has no photo, ModelError if the model has no such aggregator or another encoder."""
        person.require_photos()
        person.require_equal_weights(self.name, "it was trained on photos that count alike, and weighs them itself")
        checkpoint = self.ensure_adapter(model)
        aggregator = checkpoint.aggregator
        photos = person.photos[: aggregator.max_photos]
        embeddings = model.encoder(photos)  # (K, D)
        identity = Identity(
            method=self.name,
            model=model.name,
            encoder=model.encoder.name,
            adapter=checkpoint.adapter,
            embeddings=aggregator.pool(embeddings),  # (M, D)
            photos=tuple(photo.digest for photo in photos),
        )
        warnings = self._warnings(len(person.photos), aggregator.max_photos)
        distances = None
        if len(person.photos) > 1:
            distances = partial(self._distances, person, model, checkpoint)
        return MethodResult(identity, aggregator.photo_weights(embeddings), warnings, distances)

    def _distances(self, person: Person, model: DiffusionModel, checkpoint: AggregatorCheckpoint) -> Tensor:
        """As `leave_one_out_distances`; without a photo, the next one beyond the limit is read."""
        aggregator = checkpoint.aggregator
        return leave_one_out_distances(
            model.encoder(person.photos), lambda rows, some: aggregator.pool(rows[some][: aggregator.max_photos])
        )

    def ensure_adapter(self, model: DiffusionModel) -> AggregatorCheckpoint:
        """The trained aggregator, whose adapter is loaded into the model.

        Raises ModelError if there is none or it was trained with another encoder, IdentityError if with another adapter.
        """
        # The folder of trained files.
        if not model.encoder.name:
            needed = f"{self.name} reads the embeddings of the image encoder that it was trained with"
            action = "Put that encoder into the model's folder, as image_encoder/"
            raise ModelError(f"{model.name.partition('@')[0]} has no image encoder", needed, action)
        require_pooled_embeddings(model.encoder, self.name, model.name)
        folder = self.folder or model.trained_methods.get(self.name)
        if folder is None:
            found = f"{model.name.partition('@')[0]} has no trained {self.name}"
            action = "Train it with `tenth train` and give the folder it wrote as the method"
            raise ModelError(found, "this method is trained once for each model", action)

        # The aggregator, for this encoder.
        path, encoder = folder / AGGREGATOR_FILE, model.encoder
        checkpoint = load_aggregator(path)
        width = checkpoint.aggregator.embedding_dim
        if (checkpoint.encoder, width) != (encoder.name, encoder.embedding_dim):
            needed = f"this model's encoder gives {encoder.embedding_dim} of {encoder.name}"
            action = "Choose the model it was trained with"
            raise ModelError(f"{path} reads {width} numbers of {checkpoint.encoder}", needed, action)

        # Its adapter, or the model's own.
        path = folder / ADAPTER_FILE
        adapter = model.add_adapter(path) if path.is_file() else model.adapter_name
        if adapter != checkpoint.adapter:
            found = f"{folder} holds an aggregator for adapter {checkpoint.adapter}"
            action = "Choose the model it was trained with, or copy the whole folder again"
            raise IdentityError(found, f"the adapter at hand is {adapter}", action)
        return checkpoint

    def _warnings(self, count: int, limit: int | None) -> tuple[str, ...]:
        """Which of `count` photos are not used, or used twice. limit: how many the aggregator reads; None: any number."""
        if limit is None or count == limit:
            return ()
        used = f"the {count} there are, and {limit - count} of them repeated"
        if count > limit:
            used = f"the first {limit} of {count} in file-name order, the others are not used"
        return (f"{self.name} reads {limit} photos: {used}",)
