"""Methods with an aggregator that was trained once, on many people: photos -> aggregated embeddings -> identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tenth.core.errors import IdentityError, ModelError
from tenth.core.types import DiffusionModel, Identity, MethodResult, Person
from tenth.models.adapters.ip_adapter import ADAPTER_FILE
from tenth.models.aggregators import checkpoint


@dataclass(frozen=True)
class TrainedAdapter:
    """A method: encode each photo, pool with a trained aggregator. folder: of `tenth train`; None: the one of the model."""

    name: str
    folder: Path | None = None
    tunes_model = False

    def is_available(self, model: DiffusionModel) -> bool:
        return self.folder is not None or self.name in model.trained_methods

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """Raises DataError if the person has no photo, ModelError if the model has no such aggregator or another encoder."""
        person.require_photos()
        trained = self._load(model)
        adapter, aggregator = self._add_adapter(model, trained), trained.aggregator
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
        checkpoint.require_pooled_embeddings(model.encoder, self.name, model.name)
        folder = self.folder or model.trained_methods.get(self.name)
        if folder is None:
            found = f"{model.name.partition('@')[0]} has no trained {self.name}"
            action = "Train it with `tenth train` and give the folder it wrote as the method"
            raise ModelError(found, "this method is trained once for each model", action)
        return folder

    def _load(self, model: DiffusionModel) -> checkpoint.AggregatorCheckpoint:
        """The aggregator. Raises ModelError if it was trained with another encoder."""
        path = self._folder(model) / checkpoint.AGGREGATOR_FILE
        trained = checkpoint.load_aggregator(path)
        read, given = trained.aggregator.embedding_dim, model.encoder.embedding_dim
        if (trained.encoder, read) != (model.encoder.name, given):
            found, needed = f"{path} reads {read} numbers of {trained.encoder}", f"{given} of {model.encoder.name}"
            raise ModelError(found, f"this model's encoder gives {needed}", "Choose the model it was trained with")
        return trained

    def _add_adapter(self, model: DiffusionModel, trained: checkpoint.AggregatorCheckpoint) -> str:
        """The "name@digest" of the adapter, loaded. Raises IdentityError if the aggregator was trained with another."""
        path = self._folder(model) / ADAPTER_FILE
        name = model.add_adapter(path) if path.is_file() else model.adapter_name
        if name != trained.adapter:
            found = f"{path.parent} holds an aggregator for adapter {trained.adapter}"
            action = "Choose the model it was trained with, or copy the whole folder again"
            raise IdentityError(found, f"the adapter at hand is {name}", action)
        return name

    def _warnings(self, count: int, limit: int | None) -> tuple[str, ...]:
        """Which of `count` photos are not used, or used twice. limit: how many the aggregator reads; None: any number."""
        if limit is None or count == limit:
            return ()
        used = f"the {count} there are, and {limit - count} of them repeated"
        if count > limit:
            used = f"the first {limit} of {count} in file-name order, the others are not used"
        return (f"{self.name} reads {limit} photos: {used}",)
