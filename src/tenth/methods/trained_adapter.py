"""Methods with an aggregator that was trained once, on many people: photos -> aggregated embeddings -> identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tenth.core.errors import IdentityError, ModelError
from tenth.core.types import DiffusionModel, Identity, MethodResult, Person
from tenth.models.adapters.ip_adapter import ADAPTER_FILE
from tenth.models.aggregators.checkpoint import (
    AGGREGATOR_FILE,
    AggregatorCheckpoint,
    load_aggregator,
    require_pooled_embeddings,
)


@dataclass(frozen=True)
class TrainedAdapter:
    """A method: encode each photo, pool with a trained aggregator.

    folder: what `tenth train` wrote; None: the one that comes with the model.
    """

    name: str
    folder: Path | None = None
    tunes_model = False

    def is_available(self, model: DiffusionModel) -> bool:
        return self.folder is not None or self.name in model.trained_methods

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """Raises DataError if the person has no photo, ModelError if the model has no such aggregator or another encoder."""
        person.require_photos()
        checkpoint = self._load(model)
        adapter = self._add_adapter(model, checkpoint)
        aggregator = checkpoint.aggregator
        photos = person.photos[: aggregator.max_photos]
        embeddings = model.encoder(photos)  # (K, D)
        identity = Identity(
            method=self.name,
            model=model.name,
            encoder=model.encoder.name,
            adapter=adapter,
            embeddings=aggregator.pool(embeddings),  # (M, D)
            photos=tuple(photo.digest for photo in photos),
        )
        warnings = self._warnings(len(person.photos), aggregator.max_photos)
        return MethodResult(identity, aggregator.photo_weights(embeddings), warnings)

    def ensure_adapter(self, model: DiffusionModel) -> None:
        """Make the adapter that the aggregator was trained with known to the model. Raises what a call raises."""
        self._add_adapter(model, self._load(model))

    def _folder(self, model: DiffusionModel) -> Path:
        """The folder of trained files. Raises ModelError if the model has none, or its adapter reads patch tokens."""
        require_pooled_embeddings(model.encoder, self.name, model.name)
        folder = self.folder or model.trained_methods.get(self.name)
        if folder is None:
            raise ModelError(
                f"{model.name.partition('@')[0]} has no trained {self.name}",
                "this method is trained once for each model",
                "Train it with `tenth train` and give the folder it wrote as the method",
            )
        return folder

    def _load(self, model: DiffusionModel) -> AggregatorCheckpoint:
        """The aggregator. Raises ModelError if it was trained with another encoder."""
        path = self._folder(model) / AGGREGATOR_FILE
        checkpoint = load_aggregator(path)
        trained_with = (checkpoint.encoder, checkpoint.aggregator.embedding_dim)
        if trained_with != (model.encoder.name, model.encoder.embedding_dim):
            raise ModelError(
                f"{path} reads {checkpoint.aggregator.embedding_dim} numbers of {checkpoint.encoder}",
                f"this model's encoder gives {model.encoder.embedding_dim} of {model.encoder.name}",
                "Choose the model it was trained with",
            )
        return checkpoint

    def _add_adapter(self, model: DiffusionModel, checkpoint: AggregatorCheckpoint) -> str:
        """The "name@digest" of the adapter, loaded. Raises IdentityError if the aggregator was trained with another."""
        path = self._folder(model) / ADAPTER_FILE
        name = model.add_adapter(path) if path.is_file() else model.adapter_name
        if name != checkpoint.adapter:
            raise IdentityError(
                f"{path.parent} holds an aggregator for adapter {checkpoint.adapter}",
                f"the adapter at hand is {name}",
                "Choose the model it was trained with, or copy the whole folder again",
            )
        return name

    def _warnings(self, count: int, limit: int | None) -> tuple[str, ...]:
        """Which of `count` photos are not used, or used twice. limit: how many the aggregator reads; None: any number."""
        if limit is None or count == limit:
            return ()
        if count > limit:
            used = f"the first {limit} of {count} in file-name order, the others are not used"
        else:
            used = f"the {count} there are, and {limit - count} of them repeated"
        return (f"{self.name} reads {limit} photos: {used}",)
