"""Every identity of an experiment: where it lies, and learning what is not there yet, each person once by each method."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from tenth.core.errors import IdentityError, TenthError
from tenth.core.run_record import METHOD_SEPARATOR
from tenth.core.types import Identity, Person, Photo
from tenth.experiments.costs import add_recorded_cost, append_cost, measure_cost
from tenth.experiments.recipe import Condition, ExperimentRecipe
from tenth.methods.combined import combine_identities
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.registry import method
from tenth.models.latent_diffusion import LatentDiffusion

COSTS_FILE = "costs.jsonl"  # in an experiment's folder: a line for each person learnt and each batch drawn
SINGLE_PHOTO_METHODS = {
    "ip-adapter": 3
}  # methods that read one photo: over how many references their images are spread, in turn


def identity_paths(recipe: ExperimentRecipe, condition: Condition, name: str, person_id: str, output: Path) -> list[Path]:
    """Where the identities of one person are; image i uses the i-th, in turn. More than one for methods of one photo."""
    folder = output / "identities" / condition.folder / recipe.method_folders[name]
    # Its own photos alone: what a wrong photo does to a method that reads one is known, and it would hide the other methods'.
    count = min(SINGLE_PHOTO_METHODS.get(name, 1), condition.num_photos - condition.num_impostors)
    return [folder / f"{person_id}-{index}.safetensors" for index in range(count)]


def create_identities(
    recipe: ExperimentRecipe, model: LatentDiffusion, person: Person, impostors: Sequence[Photo], output: Path
) -> list[dict[str, str]]:
    """Every method's identity of one person under each condition, on disk. A method of one photo gets one for each photo.

    Gives the methods that failed, and why: the others go on.
    """
    failed = {}
    for condition, name in product(recipe.conditions, recipe.methods):
        photos = condition.select_photos(person.photos, impostors)
        paths = identity_paths(recipe, condition, name, person.name, output)
        photo_sets = [(photo,) for photo in photos[: len(paths)]] if name in SINGLE_PHOTO_METHODS else [photos]
        first = name.rpartition(METHOD_SEPARATOR)[0]
        first_path = identity_paths(recipe, condition, first, person.name, output)[0] if first in recipe.methods else None
        for path, selected in zip(paths, photo_sets, strict=True):
            if identity_exists(path, model):
                continue
            try:
                with measure_cost() as cost:
                    identity, reused = create_identity(name, Person(person.name, selected), model, first_path)
            except (TenthError, RuntimeError) as problem:  # a loss that is not finite, memory that is not there
                failed[name] = str(problem)
                continue
            if reused:
                cost = add_recorded_cost(output / COSTS_FILE, cost, learnt=recipe.display_names[first], person=person.name)
            # Noted first: of what is there the cost is known.
            append_cost(output / COSTS_FILE, cost, learnt=recipe.display_names[name], person=person.name)
            save_identity(identity, path)
    return [{"method": name, "person": person.name, "why": reason} for name, reason in failed.items()]


def create_identity(name: str, person: Person, model: LatentDiffusion, first_path: Path | None) -> tuple[Identity, bool]:
    """By a method. first_path: of the first of two methods together, of the same photos; taken if it is there.

    Gives whether it was: it is what the two together would have learnt again, to the last bit, in minutes.
    """
    if first_path is None or not identity_exists(first_path, model):
        return method(name)(person, model).identity, False
    adapted = method(name.rpartition(METHOD_SEPARATOR)[2])(person, model)
    return combine_identities(load_identity(first_path), adapted.identity), True


def identity_exists(path: Path, model: LatentDiffusion) -> bool:
    """Whether the identity is there and of this model."""
    try:
        model.validate(load_identity(path))
    except IdentityError:
        return False
    return True
