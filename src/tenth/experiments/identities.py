"""The identities of an experiment: where each is, and creating what is missing, each person once by each method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import cast

from tenth.core.errors import IdentityError, TenthError
from tenth.core.run_record import METHOD_SEPARATOR
from tenth.core.types import DiffusionModel, Identity, Person, Photo
from tenth.experiments.costs import CostLog, measure_cost
from tenth.experiments.recipe import Condition, ExperimentRecipe
from tenth.methods.combined import CombinedMethod, combine_identities
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.registry import method

COSTS_FILE = "costs.jsonl"  # in an experiment's folder: a line for each identity and each batch of images
SINGLE_PHOTO_METHODS = {
    "ip-adapter": 3
}  # methods that read one photo: over how many references their images are spread, in turn


@dataclass(frozen=True, eq=False)
class IdentityTask:
    """What a worker does of an experiment (workers.py): every method's identities of one person. Returns those that failed."""

    recipe: ExperimentRecipe
    person: Person
    impostors: Sequence[Photo]
    output: Path

    @property
    def costs(self) -> Path:
        return self.output / COSTS_FILE

    def __call__(self, model: DiffusionModel, costs: CostLog) -> list[dict[str, str]]:
        return create_identities(self.recipe, model, self.person, self.impostors, self.output, costs)


def identity_paths(recipe: ExperimentRecipe, condition: Condition, name: str, person_id: str, output: Path) -> list[Path]:
    """The files of one person's identities; image i uses the i-th, in turn. Methods of a single photo have several."""
    folder = output / "identities" / condition.folder / recipe.method_folders[name]
    # Only of the person's own photos: a single impostor photo would measure the impostor.
    count = min(SINGLE_PHOTO_METHODS.get(name, 1), condition.num_photos - condition.num_impostors)
    return [folder / f"{person_id}-{index}.safetensors" for index in range(count)]


def create_identities(
    recipe: ExperimentRecipe,
    model: DiffusionModel,
    person: Person,
    impostors: Sequence[Photo],
    output: Path,
    costs: CostLog,
) -> list[dict[str, str]]:
    """Write every method's identities of one person under each condition that are missing.

    Returns which methods failed, and why; the others go on.
    """
    failed = {}
    for condition, name in product(recipe.conditions, recipe.methods):
        photos = condition.select_photos(person.photos, impostors)
        paths = identity_paths(recipe, condition, name, person.name, output)
        photo_sets = [(photo,) for photo in photos[: len(paths)]] if name in SINGLE_PHOTO_METHODS else [photos]

        # Of two methods combined, the first may be there already.
        first = name.rpartition(METHOD_SEPARATOR)[0]
        first_path = identity_paths(recipe, condition, first, person.name, output)[0] if first in recipe.methods else None

        for path, selected in zip(paths, photo_sets, strict=True):
            if identity_exists(path, model):
                continue
            try:
                with measure_cost() as cost:
                    identity, reused = create_identity(name, Person(person.name, selected), model, first_path)
            except (TenthError, RuntimeError) as problem:  # such as a loss that is not finite, or too little memory
                failed[name] = str(problem)
                continue
            if reused:
                cost = costs.add_recorded(cost, task="identity", method=recipe.display_names[first], person=person.name)
            # The cost first, so that it is known of every identity on disk.
            costs.append(cost, task="identity", method=recipe.display_names[name], person=person.name)
            save_identity(identity, path, with_photos=True)  # the folder has crops of the photos already
    return [{"method": name, "person": person.name, "reason": reason} for name, reason in failed.items()]


def create_identity(name: str, person: Person, model: DiffusionModel, first_path: Path | None) -> tuple[Identity, bool]:
    """The identity by a method, and whether `first_path` was reused.

    first_path: the file of the first of two combined methods, of the same photos. It is used if it exists and the first is
    trained as if it were alone: training again would give the same weights, bit for bit, in minutes.
    """
    chosen = method(name)
    if first_path is None or not identity_exists(first_path, model) or cast(CombinedMethod, chosen).trains_with_adapter(model):
        return chosen(person, model).identity, False
    adapted = method(name.rpartition(METHOD_SEPARATOR)[2])(person, model)
    return combine_identities(load_identity(first_path), adapted.identity), True


def identity_exists(path: Path, model: DiffusionModel) -> bool:
    """Whether the file exists, and the identity is of this model."""
    try:
        model.validate(load_identity(path))
    except IdentityError:
        return False
    return True
