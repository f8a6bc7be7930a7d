"""Every identity of an experiment: where it lies, and learning what is not there yet, each person once by each method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from tenth.core.errors import IdentityError, TenthError
from tenth.core.run_record import PLUS
from tenth.core.types import Identity, Person, Photo
from tenth.experiments.costs import metered, note_cost, with_noted
from tenth.experiments.recipe import Condition, ExperimentRecipe
from tenth.methods.combined import combined
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.registry import method
from tenth.models.latent_diffusion import LatentDiffusion

COSTS = "costs.jsonl"  # in an experiment's folder: a line for each person learnt and each batch drawn
ONE_PHOTO = {"ip-adapter": 3}  # methods that read one photo: over how many references their images are spread, in turn


def identity_paths(recipe: ExperimentRecipe, condition: Condition, name: str, number: str, output: Path) -> list[Path]:
    """Where the identities of one person are; image i uses the i-th, in turn. More than one for methods of one photo."""
    folder = output / "identities" / condition.folder / recipe.folder_of[name]
    # Its own photos alone: what a wrong photo does to a method that reads one is known, and it would hide the other methods'.
    count = min(ONE_PHOTO.get(name, 1), condition.photos - condition.wrong)
    return [folder / f"{number}-{index}.safetensors" for index in range(count)]


def learn(
    recipe: ExperimentRecipe, model: LatentDiffusion, person: Person, strangers: Sequence[Photo], output: Path
) -> list[dict[str, str]]:
    """Every method's identity of one person under each condition, on disk. A method of one photo gets one for each photo.

    Gives the methods that failed, and why: the others go on.
    """
    failed = {}
    for condition, name in product(recipe.conditions, recipe.methods):
        photos = condition.given(person.photos, strangers)
        paths = identity_paths(recipe, condition, name, person.name, output)
        each = [(photo,) for photo in photos[: len(paths)]] if name in ONE_PHOTO else [photos]
        first = name.rpartition(PLUS)[0]
        half = identity_paths(recipe, condition, first, person.name, output)[0] if first in recipe.methods else None
        for path, given in zip(paths, each, strict=True):
            if is_learnt(path, model):
                continue
            try:
                with metered() as cost:
                    identity, taken = identity_of(name, Person(person.name, given), model, half)
            except (TenthError, RuntimeError) as problem:  # a loss that is not finite, memory that is not there
                failed[name] = str(problem)
                continue
            if taken:
                cost = with_noted(output / COSTS, cost, learnt=recipe.shown[first], person=person.name)
            # Noted first: of what is there the cost is known.
            note_cost(output / COSTS, cost, learnt=recipe.shown[name], person=person.name)
            save_identity(identity, path)
    return [{"method": name, "person": person.name, "why": reason} for name, reason in failed.items()]


def identity_of(name: str, person: Person, model: LatentDiffusion, half: Path | None) -> tuple[Identity, bool]:
    """By a method. half: where the first of two methods together has its identity of the same photos; what is there is taken.

    Gives whether it was: it is what the two together would have learnt again, to the last bit, in minutes.
    """
    if half is None or not is_learnt(half, model):
        return method(name)(person, model), False
    return combined(load_identity(half), method(name.rpartition(PLUS)[2])(person, model)), True


def is_learnt(path: Path, model: LatentDiffusion) -> bool:
    """Whether the identity is there and of this model."""
    try:
        model.check(load_identity(path))
    except IdentityError:
        return False
    return True
