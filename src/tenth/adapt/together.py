"""Two methods together: the model has learnt the person, and an adapter shows it the photos as well."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tenth.identity import combined
from tenth.types import Diffusion, Identity, Method, Person


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
