"""The tasks of a benchmark, as a folder that any system can read: benchmark.json, tasks.jsonl and the photos to be given."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Annotated

from tenth.core.config import Count, SomeItems, WholeNumber, config_dataclass, from_table, needs, to_table
from tenth.core.errors import DataError, RecipeError
from tenth.core.files.reading import UnreadableError, parse_json, read_json, read_text, reason
from tenth.core.files.writing import write_json, write_text
from tenth.experiments.benchmark.copies import (
    ATTRIBUTES_FILE,
    COPIES_FILE,
    PRIVATE_FOLDER,
    REFERENCES_FOLDER,
    changed_copies,
    copies_text,
)
from tenth.experiments.protocol import RealImages
from tenth.experiments.recipe import Condition, ExperimentRecipe

BENCHMARK_FILE, TASKS_FILE = "benchmark.json", "tasks.jsonl"
VERSION = 1  # of the protocol: another one gives other figures
PHOTO_COUNTS = (1, 3, 5, 9)
ATTRIBUTES_PROMPT_SET = "attributes"
ATTRIBUTE_PROMPTS = (
    "a photo of a smiling person",
    "a portrait of a person with glasses",
    "a photo of a person wearing a hat",
    "a photo of an old person",
    "a photo of a young person",
    "a portrait photo of a serious person",
    "a photo of a person with a beard",
    "a photo of a person with a mustache",
    "a photo of a person with gray hair",
    "a photo of a person with blond hair",
    "a photo of a person with black hair",
    "a photo of a person with an open mouth",
    "a picture of a person, outdoors",
    "a photo of a person wearing a tie",
    "a photo of a person with sunglasses",
    "a photo of a bald person",
    "a headshot of a person, neutral expression",
    "a photo of a smiling person with glasses, outdoors",
    "a portrait of an old person with a beard",
    "a photo of a young person wearing a hat, outdoors",
)
SUBMISSION_TEXT = (
    "For each line of tasks.jsonl make one image of the person in `references`, by `prompt`, and save it as a PNG at `image` in"
    " a folder of your own. All images have one size. `seed` is for systems that take one. Read nothing in private/."
)
LICENCE_TEXT = (
    "The photos are copies of those that you exported from, under their terms. Labeled Faces in the Wild carries no licence:"
    " its photos are from news sites, whoever took them has the rights, and it is used for research. Do not pass this folder"
    " on: whoever enters a system exports from an own copy, and gets the same tasks."
)
ETHICS_TEXT = (
    "The photos show real people, who were not asked. Use them to compare systems, not to make images for anything else, and"
    " publish figures rather than faces. LFW is of people in the news of 2002 to 2004, mostly men and mostly light-skinned: a"
    " figure on it says little about others. Of people of your own, have their consent."
)

RelativeFile = Annotated[str, needs("a path such as references/007/0.png", re.compile(r"references/\d+/\d+\.png").fullmatch)]
ImagePath = Annotated[
    str, needs("a path such as portrait/9/007/0.png", re.compile(r"[a-z][a-z0-9-]*/\d+/\d+/\d+\.png").fullmatch)
]
PersonId = Annotated[str, needs("a number such as 007", re.compile(r"\d+").fullmatch)]


@config_dataclass
class Task:
    """One image to make. image: where it goes in a submission, SET/COUNT/PERSON/SEED.png; it names the task."""

    image: ImagePath
    person: PersonId
    prompt_set: str
    num_references: Count
    prompt: str
    seed: WholeNumber
    references: SomeItems[RelativeFile]

    @property
    def condition(self) -> Condition:
        return Condition(self.num_references)


@config_dataclass
class TaskPromptSet:
    """The prompts of a set, in turn, and the number of images of each person by each number of references."""

    prompts: SomeItems[str]
    images: Count
    num_references: SomeItems[Count]


@config_dataclass
class BenchmarkRecord:
    """benchmark.json. id: of protocol, tasks and photos; equal for all who export the same people from the same data set.

    copies_sha256: of the hashes of what this folder holds (copies.py).
    """

    kind: str
    version: int
    id: str
    split: str
    people: SomeItems[PersonId]
    prompt_sets: Mapping[str, TaskPromptSet]
    num_tasks: Count
    tasks_sha256: str
    photos_sha256: str
    copies_sha256: str
    people_sha256: str
    submission: str = SUBMISSION_TEXT
    licence: str = LICENCE_TEXT
    ethics: str = ETHICS_TEXT


@config_dataclass
class _PeopleAttributes:
    """private/attributes.json."""

    people: Mapping[str, Mapping[str, bool]]


@dataclass(frozen=True)
class DataSource:
    """Where the people are from. people_sha256: of the people list. photos_sha256: of all photos that are used, in order."""

    split: str
    people_sha256: str
    photos_sha256: str


@dataclass(frozen=True)
class Benchmark:
    """A folder of tasks, read and checked."""

    directory: Path
    record: BenchmarkRecord
    tasks: tuple[Task, ...]

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def people(self) -> tuple[str, ...]:
        return self.record.people

    @cached_property
    def attributes(self) -> Mapping[str, Mapping[str, bool]]:
        """Person -> attribute -> whether the person has it. Raises DataError if the file is gone or damaged."""
        path = self.directory / PRIVATE_FOLDER / ATTRIBUTES_FILE
        try:
            return from_table(_PeopleAttributes, read_json(path), str(path)).people
        except (OSError, UnreadableError, RecipeError, TypeError) as problem:
            raise _no_benchmark(f"{path} is gone or damaged") from problem

    @property
    def real(self) -> RealImages:
        """Crops of the real photos."""
        return RealImages(self.directory / PRIVATE_FOLDER)

    @property
    def main_condition(self) -> Condition:
        """The most references."""
        return Condition(max(task.num_references for task in self.tasks))


def list_tasks(recipe: ExperimentRecipe, person_ids: Sequence[str]) -> Iterator[Task]:
    """Portraits by each number of references, other prompt sets by the largest; prompts and seeds as in an experiment."""
    for set_name, prompt_set in recipe.all_prompt_sets.items():
        for condition in recipe.conditions_of(set_name):
            for person_id in person_ids:
                photos = tuple(f"{REFERENCES_FOLDER}/{person_id}/{index}.png" for index in range(condition.num_photos))
                seeds = range(recipe.seed, recipe.seed + prompt_set.images)
                for seed, prompt in zip(seeds, cycle(prompt_set.prompts), strict=False):
                    image = f"{set_name}/{condition.folder}/{person_id}/{seed}.png"
                    yield Task(image, person_id, set_name, condition.num_photos, prompt, seed, photos)


def write_benchmark(output: Path, recipe: ExperimentRecipe, person_ids: Sequence[str], source: DataSource) -> Benchmark:
    """Write copies.json and tasks.jsonl, then benchmark.json, whose presence says that the folder is complete."""
    tasks = tuple(list_tasks(recipe, person_ids))
    text = "".join(json.dumps(to_table(task)) + "\n" for task in tasks)
    tasks_sha256, copies = hashlib.sha256(text.encode()).hexdigest(), copies_text(output)
    prompt_sets = {
        name: TaskPromptSet(
            tuple(prompt_set.prompts), prompt_set.images, tuple(each.num_photos for each in recipe.conditions_of(name))
        )
        for name, prompt_set in recipe.all_prompt_sets.items()
    }
    record = BenchmarkRecord(
        kind="benchmark",
        version=VERSION,
        id=_benchmark_id(tasks_sha256, source.photos_sha256),
        split=source.split,
        people=tuple(person_ids),
        prompt_sets=prompt_sets,
        num_tasks=len(tasks),
        tasks_sha256=tasks_sha256,
        photos_sha256=source.photos_sha256,
        copies_sha256=hashlib.sha256(copies.encode()).hexdigest(),
        people_sha256=source.people_sha256,
    )
    write_text(output / COPIES_FILE, copies)
    write_text(output / TASKS_FILE, text)
    write_json(output / BENCHMARK_FILE, to_table(record))
    return Benchmark(output, record, tasks)


def read_benchmark(directory: Path) -> Benchmark:
    """The benchmark in a folder. Raises DataError if it is none, another version's, changed, or without its private photos."""
    try:
        table = read_json(directory / BENCHMARK_FILE)
        if not isinstance(table, dict) or table.get("kind") != "benchmark":
            raise UnreadableError("is no benchmark's")
        if table.get("version") != VERSION:
            raise UnreadableError(f"is of version {table.get('version')!r:.50} of the protocol, and this tenth has {VERSION}")
        record = from_table(BenchmarkRecord, table, str(directory / BENCHMARK_FILE))
    except (OSError, UnreadableError) as problem:
        raise _no_benchmark(f"{directory / BENCHMARK_FILE} {reason(problem)}") from problem
    except RecipeError as problem:
        raise _no_benchmark(f"{problem.found} ({problem.needed})") from problem

    # The very tasks that were exported: a changed prompt would be another benchmark by the same name.
    path = directory / TASKS_FILE
    try:
        text = read_text(path)
        expected = record.tasks_sha256, record.id
        digest = hashlib.sha256(text.encode()).hexdigest()
        if (digest, _benchmark_id(digest, record.photos_sha256)) != expected:
            raise UnreadableError("has changed since it was exported")
        tasks = tuple(from_table(Task, parse_json(line), str(path)) for line in text.splitlines())
    except (OSError, UnreadableError) as problem:
        raise _no_benchmark(f"{path} {reason(problem)}") from problem
    except (RecipeError, TypeError) as problem:
        raise _no_benchmark(f"{path} holds a line that is no task") from problem

    # What scoring compares with.
    benchmark = Benchmark(directory, record, tasks)
    for person_id in record.people:
        if not (benchmark.real.paths("held-out", person_id) and benchmark.real.paths("references", person_id)):
            raise _no_benchmark(f"{directory / PRIVATE_FOLDER} has no photos of person {person_id}")
    try:
        changes = changed_copies(directory, record.copies_sha256)
    except (OSError, UnreadableError) as problem:
        raise _no_benchmark(f"{problem.filename if isinstance(problem, OSError) else directory} {reason(problem)}") from problem
    if changes:
        raise _no_benchmark(f"{directory} is not as it was exported: {changes}")
    return benchmark


def _benchmark_id(tasks_sha256: str, photos_sha256: str) -> str:
    """Twelve digits for protocol, tasks and photos."""
    return hashlib.sha256(f"{VERSION} {tasks_sha256} {photos_sha256}".encode()).hexdigest()[:12]


def _no_benchmark(found: str) -> DataError:
    needed = "a folder that `tenth benchmark export` wrote is needed, with all in it"
    return DataError(found, needed, "Export it again from the same photos (docs/benchmark.md)")
