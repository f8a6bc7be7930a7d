"""Methods whose aggregator was trained once, on many people: photos -> aggregated embeddings -> identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tenth.core.errors import DataError, IdentityError, ModelError
from tenth.core.types import DiffusionModel, Identity, Person
from tenth.models.adapters.ip_adapter import ADAPTER_FILE
from tenth.models.aggregators.checkpoint import (
    AGGREGATOR_FILE,
    AggregatorCheckpoint,
    load_aggregator,
    require_pooled_embeddings,
)
from tenth.models.aggregators.set_aggregator import SetAggregator


@dataclass(frozen=True)
class TrainedAdapter:
    """A method: encode each photo, aggregate as was learnt. folder: what `tenth train` wrote; None: what the model brings."""

    name: str
    folder: Path | None = None

    def __call__(self, person: Person, model: DiffusionModel) -> Identity:
        """Raises DataError if the person has no photo, ModelError if the model has no such aggregator or another encoder."""
        if not person.photos:
            raise DataError(f"{person.name} has no usable photo", "at least one is needed", "Add photos")
        trained = self.load(model)
        photos = person.photos[: trained.aggregator.max_photos]
        return Identity(
            method=self.name,
            model=model.name,
            encoder=model.encoder.name,
            adapter=self.adapter(model),
            embeddings=trained.aggregator.pool(model.encoder(photos)),  # (M, D)
            photos=tuple(photo.digest for photo in photos),
        )

    def trained_folder(self, model: DiffusionModel) -> Path:
        """The folder with the trained files. Raises ModelError if this model has none, or its adapter reads patch tokens."""
        require_pooled_embeddings(model.encoder, self.name, model.name)
        folder = self.folder or model.trained_methods.get(self.name)
        if folder is None:
            raise ModelError(
                f"{model.name.partition('@')[0]} has no trained {self.name}",
                "this method is trained once for each model",
                "Train it with `tenth train` and give the folder it wrote as the method",
            )
        return folder

    def load(self, model: DiffusionModel) -> AggregatorCheckpoint:
        """The aggregator. Raises ModelError if it reads embeddings of another encoder."""
        path = self.trained_folder(model) / AGGREGATOR_FILE
        trained = load_aggregator(path)
        if (trained.encoder, trained.aggregator.embedding_dim) != (model.encoder.name, model.encoder.embedding_dim):
            raise ModelError(
                f"{path} reads {trained.aggregator.embedding_dim} numbers of {trained.encoder}",
                f"this model's encoder gives {model.encoder.embedding_dim} of {model.encoder.name}",
                "Choose the model it was trained with",
            )
        return trained

    def adapter(self, model: DiffusionModel) -> str:
        """The name of the adapter that the aggregator was trained with, now known to the model."""
        path, trained = self.trained_folder(model) / ADAPTER_FILE, self.load(model)
        name = model.add_adapter(path) if path.is_file() else model.adapter_name
        if name != trained.adapter:
            raise IdentityError(
                f"{path.parent} holds an aggregator for adapter {trained.adapter}",
                f"the adapter at hand is {name}",
                "Choose the model it was trained with, or copy the whole folder again",
            )
        return name

    def photo_weights(self, person: Person, model: DiffusionModel) -> Tensor | None:
        """How much each photo counts, (K,), summing to one; None where that cannot be said."""
        aggregator = self.load(model).aggregator
        return aggregator.photo_weights(model.encoder(person.photos)) if isinstance(aggregator, SetAggregator) else None

    def warnings(self, person: Person, model: DiffusionModel) -> list[str]:
        """What a user should know about photos that are not used, or used twice."""
        limit, count = self.load(model).aggregator.max_photos, len(person.photos)
        if limit is None or count == limit:
            return []
        if count > limit:
            return [
                f"{self.name} reads {limit} photos: the first {limit} of {count} in file-name order, the others are not used"
            ]
        return [f"{self.name} reads {limit} photos: the {count} there are, and {limit - count} drawn from them again"]
