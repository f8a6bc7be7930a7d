"""A people list and its photos -> the folder of tasks, the photos that systems are given, and those that only scoring reads."""

from __future__ import annotations

import hashlib
from itertools import chain, islice
from pathlib import Path
from typing import Any

from PIL import Image

from tenth.core.config import require
from tenth.core.console import track
from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.claims import exclusive_folder, remove_temporary
from tenth.core.files.png_metadata import read_if_complete
from tenth.core.files.reading import sha256_of
from tenth.core.files.writing import write_json
from tenth.core.marks.png import write_png
from tenth.core.types import DiffusionModel, Pixels
from tenth.core.wording import pluralize
from tenth.data.splits import EVERYBODY, ReferenceSplit
from tenth.experiments.benchmark.copies import ATTRIBUTES_FILE, PRIVATE_FOLDER, REFERENCES_FOLDER
from tenth.experiments.benchmark.tasks import (
    ATTRIBUTE_PROMPTS,
    ATTRIBUTES_PROMPT_SET,
    VERSION,
    Benchmark,
    DataSource,
    write_benchmark,
)
from tenth.experiments.images import generate_missing, list_image_jobs
from tenth.experiments.output_folders import ensure_writable_experiment
from tenth.experiments.protocol import RealImages, attributes_by_id, face_crop, person_attributes, split_people
from tenth.experiments.recipe import ExperimentRecipe, PromptSet
from tenth.experiments.workers import ExperimentWorkers

# One image for each prompt: people, not images, make the interval narrow.
ATTRIBUTES = PromptSet(ATTRIBUTE_PROMPTS, len(ATTRIBUTE_PROMPTS))
PROMPT_SETS = {ATTRIBUTES_PROMPT_SET: ATTRIBUTES}


def export_benchmark(
    recipe: ExperimentRecipe, output: Path, model: DiffusionModel | None = None, *, everybody: bool = False
) -> Benchmark:
    """Write the tasks of a recipe's people, prompts and numbers of references to `output`. The same photos, the same tasks.

    everybody: people of all splits but `reserved`, not of the recipe's alone.
    model: draws the control without a person, from the prompts alone. Started again it goes on where it stopped.
    Raises DataError for fewer than two usable people, CheckpointError if the folder holds anything else.
    """
    split = EVERYBODY if everybody else recipe.split
    with exclusive_folder(output):
        enough = recipe.max_people is None or recipe.max_people > 1
        require(enough, "max_people", recipe.max_people, "2 or more: one person alone has no impostors")

        # The first two people, before anything is written: what cannot be exported leaves no folder.
        usable = split_people(recipe.data, split, references=recipe.references, held_out=recipe.held_out)
        people = islice(usable, recipe.max_people)
        first = list(islice(people, 2))
        if len(first) < 2:
            photos_text = f"{recipe.references} references and a held-out photo"
            found = f"{pluralize(len(first), 'person')} of the split {split} with {photos_text}"
            raise DataError(found, "two are needed: one alone has no impostors", "Lower --references, or add people")
        ensure_writable_experiment(output, _settings(recipe) | {"split": split}, "export of a benchmark")
        remove_temporary(output)

        # Photos, person by person: whole ones for the systems, crops for scoring.
        digests = hashlib.sha256()
        person_ids: list[str] = []
        listed, attributes = attributes_by_id(recipe.data, split), dict[str, dict[str, bool]]()
        for person_id, photos in track(chain(first, people), "people", "person"):
            crops = _write_photos(output, person_id, photos)
            attributes[person_id] = person_attributes(listed, person_id, crops)
            person_ids.append(person_id)
            digests.update("".join(photo.digest for photo in (*photos.references, *photos.held_out)).encode() + b"\n")

        write_json(output / PRIVATE_FOLDER / ATTRIBUTES_FILE, {"people": attributes})
        if model is not None:
            draw_without_identity(recipe, model, output)
        source = DataSource(split, sha256_of(recipe.data.people), digests.hexdigest())
        return write_benchmark(output, recipe, person_ids, source)


def draw_without_identity(recipe: ExperimentRecipe, model: DiffusionModel, output: Path) -> None:
    """The images that a model makes of the prompts alone, for the control `no identity`."""
    jobs = list(chain.from_iterable(list_image_jobs(recipe, (), output / PRIVATE_FOLDER).values()))
    drawn = next(filter(None, (read_if_complete(job.path) for job in jobs)), {})
    if drawn.get("model", model.name) != model.name:
        found = f"{output} has a control of the model {drawn['model']}"
        raise CheckpointError(found, "all rows of a table have one control", "Choose another -o, or that model")
    generate_missing(recipe, ExperimentWorkers(model), jobs, output / PRIVATE_FOLDER)


def _write_photos(output: Path, person_id: str, photos: ReferenceSplit) -> list[Pixels]:
    """One person's photos, as pixels alone: no name, date or place of a file is passed on. Returns the references' crops."""
    references, held_out = (list(map(face_crop, side)) for side in (photos.references, photos.held_out))
    RealImages(output / PRIVATE_FOLDER).save(person_id, references, held_out)
    for index, photo in enumerate(photos.references):
        write_png(output / REFERENCES_FOLDER / person_id / f"{index}.png", Image.fromarray(photo.pixels), photo=True)
    return references


def _settings(recipe: ExperimentRecipe) -> dict[str, Any]:
    """What a folder is for, so that no other export is mixed into it; no path of this machine."""
    return {
        "benchmark": VERSION,
        "people_sha256": sha256_of(recipe.data.people),
        "photo_counts": [condition.num_photos for condition in recipe.clean_conditions],
        "prompt_sets": sorted(recipe.all_prompt_sets),
        "images": recipe.images,
        "max_people": recipe.max_people,
    }
