"""An experiment: methods x conditions x people, with the same prompts, seeds and photos for all. Top to bottom.

People are numbered here: no name gets into a path, an image or run.json. What exists is not computed again, so an
experiment that was killed continues where it stopped, and ends with the same bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from itertools import chain, islice, product
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tenth.core.config import from_table, read_toml, to_table, with_overrides
from tenth.core.console import track
from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.files.claims import exclusive_folder, remove_temporary
from tenth.core.files.reading import sha256_of, short_sha256_of, without_system_files
from tenth.core.marks.png import write_png
from tenth.core.run_record import RECORD_FILE, replace_paths, write_record
from tenth.core.types import DiffusionModel, Person
from tenth.core.wording import abbreviate, pluralize
from tenth.data.splits import TEST_FOLD
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.metrics.prompt_alignment import PromptScorer
from tenth.evaluation.registry import metrics_for
from tenth.experiments.frontier.images import generate_frontier, list_frontier_jobs
from tenth.experiments.frontier.scores import FrontierScores, frontier_scorer
from tenth.experiments.identities import COSTS_FILE, IdentityTask
from tenth.experiments.images import ImageJobs, generate_missing, list_image_jobs
from tenth.experiments.output_folders import SETTINGS_FILE, ensure_writable_experiment
from tenth.experiments.protocol import EvaluatedPerson, RealImages, check_impostors, embed_people, pair_with_next
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.recognizers import load_prompt_scorers, load_recognizers, recognizer_records
from tenth.experiments.results import (
    face_score_records,
    image_set_score_records,
    method_costs,
    network_records,
    people_contact_sheet,
    prompt_score_records,
    read_finished,
    write_tables,
)
from tenth.experiments.scoring import SET_VIEWS, table_rows
from tenth.experiments.workers import ExperimentWorkers, ensure_adapters
from tenth.methods.registry import RECIPE_SUFFIX, method, method_parts
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import DEFAULT_MODEL, load_model
from tenth.reporting.results_reader import FORMAT

NUM_SHEET_PEOPLE = 3  # on sheet.png


def read_experiment(path: Path, options: Mapping[str, Any] | None = None) -> ExperimentRecipe:
    """The recipe in a TOML file, with what `options` says instead of its keys.

    Raises RecipeError if a key or value is impossible, InputError for an unknown method.
    """
    recipe = from_table(ExperimentRecipe, read_toml(path), str(path))
    return with_overrides(recipe, options, "the options") if options else recipe


def run_experiment(
    recipe: ExperimentRecipe,
    output: Path,
    networks: Mapping[str, Extractor] = MappingProxyType({}),
    *,
    resume: bool = False,
    workers: int = 0,
) -> str:
    """Write `output`/images, identities, run.json, and from it tables and report.html. Returns the tables.

    A method that fails for a person is noted in run.json and tried again by the next call; the person is left out.
    networks: as `load_networks` gives them, for metrics of image sets; a finished run without these is only given them.
    workers: processes that share identities and images, each on one thread; 0: this process alone. A pixel may differ by 1/255.
    Raises CheckpointError if the folder holds something else, or has nothing to resume, DataError if too few people are usable.
    """
    start = time.perf_counter()
    if resume and not (output / SETTINGS_FILE).is_file():
        found = f"{output} holds no experiment to go on with"
        raise CheckpointError(found, "one is needed", "Leave out --resume, or correct -o")

    # The model, and what measures its images.
    options = LoadOptions(full_precision=any(method(name).tunes_model for name in recipe.methods))
    model = load_model(recipe.model, options=options, on_message=partial(print, file=sys.stderr))
    recipe = replace(recipe, sampling=recipe.sampling.for_model(model))
    ensure_adapters(model, recipe.methods)
    shared = ExperimentWorkers(model, recipe.model, options, recipe.methods, workers)
    experiment = LoadedExperiment(recipe, shared, load_recognizers(recipe, model), load_prompt_scorers(recipe, model), networks)
    check_test_people(recipe)
    if recipe.frontier is not None:
        frontier_scorer(recipe.frontier, experiment.prompt_scorers)  # before anything is generated
    settings = run_settings(recipe, model, experiment.recognizers)

    with exclusive_folder(output):
        ensure_writable_experiment(output, settings)
        remove_temporary(output)
        finished = read_finished(output, networks)
        if finished is None:
            results = experiment.results(output) | {"seconds": round(time.perf_counter() - start, 1)}
        elif any(finished["networks"].get(name, {}).get("name") != network.name for name, network in networks.items()):
            results = experiment.with_networks(finished, output)
        else:
            return write_tables(output)
        results = replace_paths(results, recipe.path_names)  # no path of this machine
        write_record(output / RECORD_FILE, command="experiment", settings=settings, results=results)
        return write_tables(output)


@dataclass(frozen=True, eq=False)
class LoadedExperiment:
    """A recipe, and what its names stand for."""

    recipe: ExperimentRecipe
    workers: ExperimentWorkers
    recognizers: Mapping[str, FaceEmbedder]
    prompt_scorers: Sequence[PromptScorer]
    networks: Mapping[str, Extractor]

    def results(self, output: Path) -> dict[str, Any]:
        """Create identities, generate and score images, as far as they are missing. Returns the results for run.json."""
        # Real photos first: who is usable is known before images are generated, and does not depend on a method.
        recipe, model, real = self.recipe, self.workers.model, RealImages(output)
        people, failed = process_people(recipe, self.workers, self.recognizers, real)
        failed_people = {failure["person"] for failure in failed}
        people = [person for person in people if person.person_id not in failed_people]
        if len(people) < recipe.needed_people:
            remaining = f"{pluralize(len(people), 'person')} left without a failure"
            reasons = abbreviate(dict.fromkeys(failure["reason"].rstrip(".") for failure in failed), "; ")
            raise DataError(remaining, f"{recipe.needed_people} are needed", reasons)

        # Images.
        person_ids = [person.person_id for person in people]
        jobs = list_image_jobs(recipe, person_ids, output)
        generate_missing(recipe, self.workers, chain.from_iterable(jobs.values()), output)
        write_png(output / "sheet.png", people_contact_sheet(recipe, people[:NUM_SHEET_PEOPLE], jobs))

        frontiers = self.frontiers(people, jobs, output)

        # Scores.
        rows = table_rows(recipe, person_ids, jobs, real)
        scores, differences, agreement = face_score_records(rows, people, self.recognizers)
        scores += prompt_score_records(rows, self.prompt_scorers)
        scores += image_set_score_records(rows, person_ids, real, self.networks)
        prompt_sets = recipe.all_prompt_sets.items()
        return {
            "format": FORMAT,
            "people": person_ids,
            "systems": [
                {"method": name, "model": model.name, "width": side, "height": side}
                for name, side in product(recipe.display_names.values(), [model.native_resolution])
            ],
            "recognizers": recognizer_records(self.recognizers),
            "scores": scores,
            "prompt_scorers": [scorer.name for scorer in self.prompt_scorers],
            "differences": differences,
            "agreement": agreement,
            "frontiers": frontiers,
            "costs": method_costs(output / COSTS_FILE, recipe),
            "failed": failed,
            "prompt_sets": {
                name: {"prompts": prompt_set.prompts, "images": prompt_set.images} for name, prompt_set in prompt_sets
            },
            **network_records(self.networks),
        }

    def frontiers(self, people: Sequence[EvaluatedPerson], jobs: ImageJobs, output: Path) -> list[dict[str, Any]]:
        """The recipe's frontier, if it has one, by each recognizer. Its images are generated as far as they are missing."""
        if (frontier := self.recipe.frontier) is None:
            return []
        at_settings = list_frontier_jobs(self.recipe, frontier, jobs, output)
        generate_frontier(self.recipe, self.workers, at_settings, output)
        scorer = frontier_scorer(frontier, self.prompt_scorers)
        scores = FrontierScores(frontier, self.recipe.main_condition, people, self.recognizers, scorer)
        return list(scores.records(at_settings))

    def with_networks(self, earlier: Mapping[str, Any], output: Path) -> dict[str, Any]:
        """The results of a finished run, with the metrics of image sets by these networks; those by others stay."""
        person_ids, real = earlier["people"], RealImages(output)
        jobs = list_image_jobs(self.recipe, person_ids, output)
        generate_missing(self.recipe, self.workers, chain.from_iterable(jobs.values()), output)  # what was removed since
        rows = table_rows(self.recipe, person_ids, jobs, real)
        needs = [need for need, view in SET_VIEWS.items() if view.network in self.networks]
        measured = {metric.name for metric in metrics_for(*needs)}
        kept = [score for score in earlier["scores"] if score["metric"] not in measured]
        found = image_set_score_records(rows, person_ids, real, self.networks)
        return {
            **earlier,
            "scores": [*kept, *(score for score in found if score["metric"] in measured)],
            **network_records(self.networks, earlier["networks"]),
        }


def process_people(
    recipe: ExperimentRecipe, workers: ExperimentWorkers, recognizers: Mapping[str, FaceEmbedder], real: RealImages
) -> tuple[list[EvaluatedPerson], list[dict[str, str]]]:
    """Every usable person, with each method's identity of that person on disk; and which methods failed, and why.

    Photos of at most three people are in memory at a time, and of one for each worker. Raises DataError if fewer than
    `min_people` remain, or one alone where impostor photos are needed, or if an impostor's photo is the person's own.
    """
    people: list[EvaluatedPerson] = []
    usable = islice(embed_people(recipe, recognizers, real), recipe.max_people)

    def tasks() -> Iterator[IdentityTask]:
        for (person, photos), (next_person, next_photos) in pair_with_next(track(usable, "people", "person")):
            people.append(person)
            # The next person's photos are the impostor's; a person alone has no impostor, and is left to the error below.
            if next_person is not person or not recipe.max_impostors:
                impostors = next_photos.references[: recipe.max_impostors]
                check_impostors(impostors, photos)
                yield IdentityTask(recipe, Person(person.person_id, photos.references), impostors, real.output)

    failed = sorted(chain.from_iterable(workers.results(tasks())), key=itemgetter("person"))
    needed = max(recipe.needed_people, 2 if recipe.max_impostors else 1)
    if len(people) < needed:
        found = f"{pluralize(len(people), 'person')} of {recipe.split} with {recipe.references} references and a held-out photo"
        action = "Lower references or min_people, or check the folder of photos"
        raise DataError(found, f"{needed} are needed", action)
    return people, failed


def check_test_people(recipe: ExperimentRecipe) -> None:
    """Raises RecipeError if the package's model was trained on the people that are to test it."""
    folds = {row.fold for row in recipe.data.entries(recipe.split, required=False)}
    if recipe.model == DEFAULT_MODEL and recipe.split == "test" and not folds <= {TEST_FOLD}:
        raise RecipeError(
            f"test people of fold {', '.join(map(str, sorted(folds - {TEST_FOLD})))}, and the model {recipe.model}",
            f"it was trained on all folds but {TEST_FOLD}",
            "Write people.jsonl without --fold, or name a model that you trained on this split",
        )


def run_settings(recipe: ExperimentRecipe, model: DiffusionModel, recognizers: Iterable[str]) -> dict[str, Any]:
    """The recipe and what its names stand for: weights, data, recognizers and version. Ready for JSON."""
    names = method_parts(recipe.methods)
    trained = {name: Path(name) if Path(name).is_dir() else model.trained_methods.get(name) for name in names}
    settings = to_table(recipe) | {
        "baselines": recipe.baseline_methods,
        "photo_counts": [condition.num_photos for condition in recipe.clean_conditions],
        "trained_methods": {
            name: short_sha256_of(without_system_files(folder, folder.glob("*.safetensors")))
            for name, folder in trained.items()
            if folder
        },
        "tuned_methods": {name: sha256_of(Path(name)) for name in names if name.endswith(RECIPE_SUFFIX)},
        "model_weights": model.name,
        "adapter": model.adapter_name,
        "encoder": model.encoder.name,
        "people_sha256": sha256_of(recipe.data.people),
        "recognizer_weights": list(recognizers),
        "tenth": version("tenth"),
    }
    plain: dict[str, Any] = replace_paths(json.loads(json.dumps(settings, default=str)), recipe.path_names)
    return plain
