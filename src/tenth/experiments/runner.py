"""Methods x conditions x people: the same prompt, seeds and photos for all, judged side by side on identity. Top to bottom.

People are numbers here: no name gets into a path, a picture or run.json. What exists already is not made again, so an
experiment that was killed goes on where it stopped, and ends with the same bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.config import from_table, read_toml, to_table
from tenth.core.console import track
from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.files.claims import exclusive_folder, list_entries, remove_temporary
from tenth.core.files.reading import UnreadableError, read_json, reason, sha256_of, short_sha256_of, without_system_files
from tenth.core.files.writing import write_png, write_text
from tenth.core.run_record import RECORD_FILE, read_record, replace_paths, write_record
from tenth.core.types import FeatureArray, Person, Photo, Pixels
from tenth.core.wording import abbreviate, pluralize
from tenth.data.splits import TEST_FOLD, ReferenceSplit
from tenth.evaluation.extractors.face_recognizer import FaceEmbedder
from tenth.evaluation.extractors.features import extract_features
from tenth.evaluation.extractors.inception import Inception
from tenth.evaluation.metrics.prompt_alignment import PromptScorer
from tenth.evaluation.registry import metrics_for
from tenth.experiments.identities import COSTS_FILE, create_identities
from tenth.experiments.images import ImageJobs, RealImages, generate_missing, list_image_jobs
from tenth.experiments.judges import load_prompt_scorers, load_recognizers, recognizer_records
from tenth.experiments.protocol import EvaluatedPerson, check_impostors, face_crop, pair_with_next, split_people
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.results import (
    AllTableRows,
    face_score_records,
    image_set_score_records,
    method_costs,
    people_contact_sheet,
    prompt_score_records,
)
from tenth.experiments.scoring import OF_SETS, table_rows
from tenth.methods.registry import RECIPE_SUFFIX, method
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import DEFAULT_MODEL, load_model
from tenth.reporting.html.page import write_page
from tenth.reporting.markdown import markdown
from tenth.reporting.plot_style import can_plot
from tenth.reporting.plots import has_curve, write_curve
from tenth.reporting.results_reader import FORMAT, read_results

NUM_SHEET_PEOPLE = 3  # people on sheet.png
TABLE_FILE, CURVE, SETTINGS_FILE = "table.md", "curve.png", "settings.json"


def read_experiment(path: Path) -> ExperimentRecipe:
    """The recipe in a TOML file. Raises RecipeError if a key or value is impossible, InputError for an unknown method."""
    return from_table(ExperimentRecipe, read_toml(path), str(path))


def run_experiment(recipe: ExperimentRecipe, output: Path, inception: Inception | None = None, *, resume: bool = False) -> str:
    """Everything, once: `output`/images, identities, run.json, and from it table.md and report.html. Gives the tables.

    What failed for one method and person is in run.json, is tried again by the next call, and costs the person, not the run.
    inception: for metrics of sets of images; a run that was finished without it is given those and nothing else.
    Raises CheckpointError if the folder holds something else, or nothing to resume where that is asked, DataError if too few
    people are usable.
    """
    start = time.perf_counter()
    if resume and not (output / SETTINGS_FILE).is_file():
        raise CheckpointError(
            f"{output} holds no experiment to go on with", "one is needed", "Leave out --resume, or correct -o"
        )
    needs_training = any(method(name).tunes_model for name in recipe.methods)
    model = load_model(
        recipe.model, options=LoadOptions(full_precision=needs_training), on_message=partial(print, file=sys.stderr)
    )
    experiment = LoadedExperiment(recipe, model, load_recognizers(recipe, model), load_prompt_scorers(recipe, model), inception)
    check_test_people(recipe)
    settings = run_settings(recipe, model, experiment.recognizers)
    with exclusive_folder(output):
        ensure_writable(output, settings)
        remove_temporary(output)
        earlier = read_finished(output)
        if earlier is None:
            results = experiment.results(output)
            return write_results(
                output, settings, results | {"seconds": round(time.perf_counter() - start, 1)}, recipe.path_names
            )
        if inception is None or earlier["inception"] == inception.name:
            return write_tables(output)
        return write_results(output, settings, experiment.with_inception(earlier, output), recipe.path_names)


@dataclass(frozen=True, eq=False)
class LoadedExperiment:
    """An experiment's recipe, and what its names stand for."""

    recipe: ExperimentRecipe
    model: LatentDiffusion
    recognizers: Mapping[str, FaceEmbedder]
    prompt_scorers: Sequence[PromptScorer]
    inception: Inception | None

    def results(self, output: Path) -> dict[str, Any]:
        """Learn, draw and judge what is not there yet. What came of it, for run.json."""
        # Real photos first: who is usable is known before anything is drawn, and does not depend on a method.
        recipe, real = self.recipe, RealImages(output)
        people, failed = process_people(recipe, self.model, self.recognizers, real)
        people = [person for person in people if person.person_id not in {each["person"] for each in failed}]
        if len(people) < recipe.min_people:
            remaining = f"{pluralize(len(people), 'person')} left without a failure"
            reasons = abbreviate(dict.fromkeys(each["why"].rstrip(".") for each in failed), "; ")
            raise DataError(remaining, f"{recipe.min_people} are needed", reasons)
        person_ids = [person.person_id for person in people]
        jobs = list_image_jobs(recipe, person_ids, output)
        generate_missing(recipe, self.model, (picture for images in jobs.values() for picture in images), output)

        rows = all_table_rows(recipe, person_ids, jobs, real)
        scores, differences = face_score_records(rows, people, self.recognizers)
        write_png(output / "sheet.png", people_contact_sheet(recipe, people[:NUM_SHEET_PEOPLE], jobs))
        sets = image_set_score_records(rows, person_ids, real, self.inception)
        return {
            "format": FORMAT,
            "people": person_ids,
            "judges": recognizer_records(self.recognizers),
            "scores": [*scores, *prompt_score_records(rows, self.prompt_scorers), *sets],
            "readers": [reader.name for reader in self.prompt_scorers],
            "differences": differences,
            "costs": method_costs(output / COSTS_FILE, recipe),
            "failed": failed,
            "tracks": {
                name: {"prompts": track.prompts, "images": track.images} for name, track in recipe.all_prompt_sets.items()
            },
            **inception_record(self.inception),
        }

    def with_inception(self, earlier: Mapping[str, Any], output: Path) -> dict[str, Any]:
        """Results of a run that was finished, with what Inception says."""
        person_ids, real = earlier["people"], RealImages(output)
        rows = all_table_rows(self.recipe, person_ids, list_image_jobs(self.recipe, person_ids, output), real)
        of_sets = {metric.name for metric in metrics_for(*OF_SETS)}
        kept = [score for score in earlier["scores"] if score["metric"] not in of_sets]
        sets = image_set_score_records(rows, person_ids, real, self.inception)
        return {**earlier, "scores": [*kept, *sets], **inception_record(self.inception)}


def read_finished(output: Path) -> dict[str, Any] | None:
    """The results of a run that is done and in which nothing failed."""
    if not (output / RECORD_FILE).exists():
        return None
    record = read_record(output / RECORD_FILE, command="experiment")
    read_results(record)
    results: dict[str, Any] = record["results"]
    if missing := [key for key in ("failed", "people", "scores", "inception") if key not in results]:
        raise CheckpointError(
            f"{output / RECORD_FILE} has no {missing[0]}", "the record of this experiment is needed", "Remove it"
        )
    return None if results["failed"] else results


def write_results(output: Path, settings: Mapping[str, Any], results: Mapping[str, Any], path_names: Mapping[str, str]) -> str:
    """Write the record, in which no place of this machine stands, and what is made of it. Gives the tables."""
    write_record(output / RECORD_FILE, command="experiment", settings=settings, results=replace_paths(results, path_names))
    return write_tables(output)


def write_tables(output: Path) -> str:
    """Tables, page and curve, from the record alone, so that a run that was killed before has them at the next call."""
    record = read_record(output / RECORD_FILE, command="experiment")
    text = markdown(record)
    write_text(output / TABLE_FILE, text)
    write_page(output / RECORD_FILE)
    results = read_results(record)
    if can_plot() and any(has_curve(results, track) for track in results.scored):
        write_curve(results, output / CURVE)
    return text


def inception_record(inception: Inception | None) -> dict[str, str]:
    """What run.json says of Inception."""
    return (
        {"inception": inception.name, "meaningless": inception.disclaimer}
        if inception
        else {"inception": "", "meaningless": ""}
    )


def check_test_people(recipe: ExperimentRecipe) -> None:
    """Raises RecipeError if people that the package's model has learnt from are to test it."""
    folds = {row.fold for row in recipe.data.entries(recipe.split, required=False)}
    if recipe.model == DEFAULT_MODEL and recipe.split == "test" and not folds <= {TEST_FOLD}:
        raise RecipeError(
            f"test people of fold {', '.join(map(str, sorted(folds - {TEST_FOLD})))}, and the model {recipe.model}",
            f"it was trained on all folds but {TEST_FOLD}",
            "Write people.jsonl without --fold, or name a model that you trained on this split",
        )


def run_settings(recipe: ExperimentRecipe, model: LatentDiffusion, recognizers: Iterable[str]) -> dict[str, Any]:
    """The recipe and what its names stood for: weights, data, recognisers and version. Ready for JSON."""
    trained = {name: Path(name) if Path(name).is_dir() else model.trained_methods.get(name) for name in recipe.methods}
    settings = to_table(recipe) | {
        "baselines": recipe.baseline_methods,
        "photo_counts": [condition.num_photos for condition in recipe.clean_conditions],
        "trained_methods": {
            name: short_sha256_of(without_system_files(folder, folder.glob("*.safetensors")))
            for name, folder in trained.items()
            if folder
        },
        "tuned_methods": {name: sha256_of(Path(name)) for name in recipe.methods if name.endswith(RECIPE_SUFFIX)},
        "model_weights": model.name,
        "adapter": model.adapter_name,
        "encoder": model.encoder.name,
        "people_sha256": sha256_of(recipe.data.people),
        "recognisers": list(recognizers),
        "tenth": version("tenth"),
    }
    plain: dict[str, Any] = replace_paths(json.loads(json.dumps(settings, default=str)), recipe.path_names)
    return plain


def ensure_writable(output: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this experiment's, or see that it is. Raises CheckpointError if it holds another or anything else."""
    path, action = output / SETTINGS_FILE, "Choose another folder, or remove this one"
    if path.is_file():
        earlier = read_settings(path)
        changed = sorted(key for key in {*earlier, *settings} if earlier.get(key) != settings.get(key))
        if changed:
            raise CheckpointError(
                f"{output} holds an experiment with another {abbreviate(changed)}", "a folder holds one", action
            )
    elif output.exists() and (not output.is_dir() or list_entries(output)):
        raise CheckpointError(f"{output} is not empty and holds no experiment", "an empty or new folder is needed", action)
    else:
        write_text(path, json.dumps(settings, indent=1) + "\n")


def read_settings(path: Path) -> dict[str, Any]:
    """What an experiment's folder is for. Raises CheckpointError if it is damaged."""
    needed, action = "the settings of an experiment are needed", "Choose another folder, or remove this one"
    try:
        settings = read_json(path)
    except (OSError, UnreadableError) as problem:
        raise CheckpointError(f"{path} {reason(problem)}", needed, action) from problem
    if not isinstance(settings, dict):
        raise CheckpointError(f"{path} is no table", needed, action)
    return settings


def process_people(
    recipe: ExperimentRecipe, model: LatentDiffusion, recognizers: Mapping[str, FaceEmbedder], real: RealImages
) -> tuple[list[EvaluatedPerson], list[dict[str, str]]]:
    """Part, judge and learn person after person; the photos of three people at most are in memory at a time.

    Left out, whatever the methods: who has too few distinct photos, and in whose references or held-out photos a
    recogniser finds no face at all. Gives what failed besides. Raises DataError if fewer than `least_people` remain, or one
    alone where photos of a stranger are needed, or if a stranger's photo is the person's own.
    """

    def usable_people() -> Iterator[tuple[EvaluatedPerson, ReferenceSplit[Photo]]]:
        for person_id, split_photos in split_people(
            recipe.data, recipe.split, references=recipe.references, held_out=recipe.held_out
        ):
            reference_images, held_out_images = (
                real_images(recipe, split_photos.references),
                real_images(recipe, split_photos.held_out),
            )
            rows = [
                [embed_images(recogniser, side) for side in (reference_images, held_out_images)]
                for recogniser in recognizers.values()
            ]
            person = EvaluatedPerson(person_id, tuple(map(face_crop, split_photos.references)), *zip(*rows, strict=True))
            if person.has_faces():
                real.save(person_id, person.crops, list(map(face_crop, split_photos.held_out)))
                yield person, split_photos

    people, failed = [], []
    for (judged, parted), (next_person, next_photos) in pair_with_next(
        track(islice(usable_people(), recipe.max_people), "people")
    ):
        people.append(judged)
        if next_person is not judged or not recipe.max_impostors:
            impostors = next_photos.references[: recipe.max_impostors]
            check_impostors(impostors, parted)
            failed += create_identities(recipe, model, Person(judged.person_id, parted.references), impostors, real.output)
    needed = max(recipe.min_people, 2 if recipe.max_impostors else 1)
    if len(people) < needed:
        raise DataError(
            f"{pluralize(len(people), 'person')} of {recipe.split} with {recipe.references} references and a held-out photo",
            f"{needed} are needed",
            "Lower references or least_people, or check the folder of photos",
        )
    return people, failed


def embed_images(recognizer: FaceEmbedder, images: Sequence[Pixels]) -> FeatureArray:
    """Rows (K, D) of a few pictures, once for all experiments."""
    return extract_features(images, [recognizer], ArrayCache(default_cache_dir()))[recognizer.name]


def real_images(recipe: ExperimentRecipe, photos: Iterable[Photo]) -> list[Pixels]:
    """What a recogniser sees of real photos."""
    return [face_crop(photo) if recipe.real_photo_framing == "crop" else photo.pixels for photo in photos]


def all_table_rows(recipe: ExperimentRecipe, person_ids: Sequence[str], jobs: ImageJobs, real: RealImages) -> AllTableRows:
    """The rows of every table, by track and condition."""
    return {
        (track, condition): table_rows(recipe, person_ids, jobs, real, track, condition)
        for track in recipe.all_prompt_sets
        for condition in recipe.conditions_of(track)
    }
