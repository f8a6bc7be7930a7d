"""Two methods together: the model has learnt the person, and an adapter shows it the photos as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from tenth.core.errors import IdentityError
from tenth.core.types import Diffusion, Identity, Method, Person


@dataclass(frozen=True)
class Together:
    """A method: what `learnt` changes of the model and the embeddings of `adapted`, in force together."""

    learnt: Method
    adapted: Method

    def __call__(self, person: Person, model: Diffusion) -> Identity:
        """Raises what the two raise."""
        adapted = self.adapted(person, model)  # first: it takes no minutes, and what it refuses is refused at once
        return combined(self.learnt(person, model), adapted)

    def weights(self, person: Person, model: Diffusion) -> Tensor | None:
        """The adapter's: (K,), or None where that cannot be said."""
        return self.adapted.weights(person, model)

    def notes(self, person: Person, model: Diffusion) -> list[str]:
        """What a user should know of either."""
        return [*self.learnt.notes(person, model), *self.adapted.notes(person, model)]


def combined(learnt: Identity, adapted: Identity) -> Identity:
    """The weights of one identity and the embeddings of another, both of one person and model, in force together.

    Raises IdentityError if they were made for different models, or do not have the one and the other.
    """
    if learnt.model != adapted.model or not learnt.weights or adapted.embeddings is None or adapted.weights:
        raise IdentityError(
            f"{learnt.method} for {learnt.model} and {adapted.method} for {adapted.model}",
            "an identity with weights and one with embeddings, of one model, are needed",
            "Make the first with a method that trains, the second with an adapter",
        )
    photos = tuple(dict.fromkeys((*learnt.photos, *adapted.photos)))
    return replace(adapted, method=f"{learnt.method}+{adapted.method}", weights=learnt.weights, word=learnt.word, photos=photos)
