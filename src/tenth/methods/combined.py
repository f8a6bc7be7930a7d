"""Two methods together: the model has learnt the person, and an adapter shows it the photos as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from tenth.core.errors import IdentityError
from tenth.core.types import DiffusionModel, Identity, Method, Person


@dataclass(frozen=True)
class CombinedMethod:
    """A method: what `fine_tuned` changes of the model and the embeddings of `adapter`, in force together."""

    fine_tuned: Method
    adapter: Method

    def __call__(self, person: Person, model: DiffusionModel) -> Identity:
        """Raises what the two raise."""
        adapter_identity = self.adapter(person, model)  # first: it takes no minutes, and what it refuses is refused at once
        return combine_identities(self.fine_tuned(person, model), adapter_identity)

    def photo_weights(self, person: Person, model: DiffusionModel) -> Tensor | None:
        """The adapter's: (K,), or None where that cannot be said."""
        return self.adapter.photo_weights(person, model)

    def warnings(self, person: Person, model: DiffusionModel) -> list[str]:
        """What a user should know of either."""
        return [*self.fine_tuned.warnings(person, model), *self.adapter.warnings(person, model)]


def combine_identities(fine_tuned: Identity, adapter: Identity) -> Identity:
    """The weights of one identity and the embeddings of another, both of one person and model, in force together.

    Raises IdentityError if they were made for different models, or do not have the one and the other.
    """
    if fine_tuned.model != adapter.model or not fine_tuned.weights or adapter.embeddings is None or adapter.weights:
        raise IdentityError(
            f"{fine_tuned.method} for {fine_tuned.model} and {adapter.method} for {adapter.model}",
            "an identity with weights and one with embeddings, of one model, are needed",
            "Make the first with a method that trains, the second with an adapter",
        )
    photos = tuple(dict.fromkeys((*fine_tuned.photos, *adapter.photos)))
    return replace(
        adapter,
        method=f"{fine_tuned.method}+{adapter.method}",
        weights=fine_tuned.weights,
        trigger_phrase=fine_tuned.trigger_phrase,
        photos=photos,
    )
