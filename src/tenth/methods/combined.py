"""A fine-tuned method together with one that reads photos: weights, and embeddings or photos in context, in one identity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from tenth.core.errors import IdentityError
from tenth.core.run_record import METHOD_SEPARATOR
from tenth.core.types import DiffusionModel, Identity, Method, MethodResult, Person


@runtime_checkable
class FineTuningMethod(Method, Protocol):
    """A method that trains weights, alone or beside another that reads the photos.

    beside: the same as the first of a pair, whose adapter may be on in training. trains_with_adapter: whether it then is.
    """

    def beside(self, adapter: Method) -> FineTuningMethod: ...
    def trains_with_adapter(self, model: DiffusionModel) -> bool: ...


@dataclass(frozen=True)
class CombinedMethod:
    """A method: the weights of `fine_tuned` and what `adapter` makes of the photos, applied together."""

    fine_tuned: FineTuningMethod
    adapter: Method
    tunes_model = True

    @property
    def name(self) -> str:
        return f"{self.fine_tuned.name}{METHOD_SEPARATOR}{self.adapter.name}"

    @property
    def keeps_photos(self) -> bool:
        return self.adapter.keeps_photos

    def is_available(self, model: DiffusionModel) -> bool:
        return self.fine_tuned.is_available(model) and self.adapter.is_available(model)

    def trains_with_adapter(self, model: DiffusionModel) -> bool:
        """Whether the weights are others than those of the first method alone."""
        return self.fine_tuned.beside(self.adapter).trains_with_adapter(model)

    def __call__(self, person: Person, model: DiffusionModel) -> MethodResult:
        """The photo weights are the adapter's. Raises what the two methods raise."""
        person.require_equal_weights(self.name, "fine-tuning sees every photo equally often")
        # The adapter takes seconds and may refuse the photos: it runs before minutes of fine-tuning.
        adapted = self.adapter(person, model)
        tuned = self.fine_tuned.beside(self.adapter)(person, model)
        identity = combine_identities(tuned.identity, adapted.identity)
        return MethodResult(identity, adapted.photo_weights, (*tuned.warnings, *adapted.warnings), adapted.leave_one_out)


def combine_identities(fine_tuned: Identity, adapter: Identity) -> Identity:
    """The weights of one identity with the embeddings, or the photos in context, of another.

    Raises IdentityError unless they are so, of one model.
    """
    reads_photos = adapter.embeddings is not None or adapter.context
    if fine_tuned.model != adapter.model or not fine_tuned.weights or not reads_photos or adapter.weights:
        found = f"{fine_tuned.method} for {fine_tuned.model} and {adapter.method} for {adapter.model}"
        needed = "an identity with weights and one with embeddings or photos, of one model, are needed"
        raise IdentityError(found, needed, "Make the first with a method that trains, the second with one that does not")
    photos = tuple(dict.fromkeys((*fine_tuned.photos, *adapter.photos)))
    name = f"{fine_tuned.method}{METHOD_SEPARATOR}{adapter.method}"
    phrase = fine_tuned.trigger_phrase
    return replace(adapter, method=name, weights=fine_tuned.weights, trigger_phrase=phrase, photos=photos)
