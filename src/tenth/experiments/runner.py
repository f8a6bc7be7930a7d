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

from tenth.core.cache import Store, default_store
from tenth.core.claims import claimed_folder, contents, remove_temporary
from tenth.core.config import from_table, read_toml, to_table
from tenth.core.console import progress
from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.file_reading import UnreadableError, digest_of, file_digest, read_json, reason, without_litter
from tenth.core.file_writing import write_png, write_text
from tenth.core.run_record import RECORD, names_of, read_record, without_places, write_record
from tenth.core.types import Person, Photo, Pixels
from tenth.core.wording import counted, few
from tenth.data.splits import TEST_FOLD, Parted
from tenth.evaluation.extractors.face_recognizer import Recognises
from tenth.evaluation.extractors.features import Rows, extract
from tenth.evaluation.extractors.inception import Inception
from tenth.evaluation.metrics.prompt_alignment import ReadsPrompts
from tenth.evaluation.registry import SETS
from tenth.experiments.identities import COSTS, learn
from tenth.experiments.images import Pictures, Real, draw, list_pictures
from tenth.experiments.judges import judges_of, open_readers, open_recognisers
from tenth.experiments.protocol import Judged, check_strangers, crop_of, part_people, with_next
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.results import AllRows, costs_of, curve_of, scores_of_faces, scores_of_prompts, scores_of_sets, sheet_of
from tenth.experiments.scoring import rows_of
from tenth.methods.registry import RECIPE, learns, method
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import Use
from tenth.models.registry import DEFAULT_MODEL, load_model
from tenth.reporting.html.page import write_page
from tenth.reporting.markdown import markdown
from tenth.reporting.results_reader import read_results

SHOWN = 3  # people on sheet.png
TABLE, SETTINGS = "table.md", "settings.json"


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
    if resume and not (output / SETTINGS).is_file():
        raise CheckpointError(
            f"{output} holds no experiment to go on with", "one is needed", "Leave out --resume, or correct -o"
        )
    learning = any(learns(method(name)) for name in recipe.methods)
    model = load_model(recipe.model, use=Use(whole=learning), tell=partial(print, file=sys.stderr))
    opened = Opened(recipe, model, open_recognisers(recipe, model), open_readers(recipe, model), inception)
    check_unseen(recipe)
    settings = settings_of(recipe, model, opened.recognisers)
    with claimed_folder(output):
        claim(output, settings)
        remove_temporary(output)
        before = finished(output)
        if before is None:
            results = opened.results(output)
            return finish(output, settings, results | {"seconds": round(time.perf_counter() - start, 1)}, recipe.places)
        if inception is None or before["inception"] == inception.name:
            return write_tables(output)
        return finish(output, settings, opened.filled_in(before, output), recipe.places)


@dataclass(frozen=True, eq=False)
class Opened:
    """An experiment's recipe, and what its names stand for."""

    recipe: ExperimentRecipe
    model: LatentDiffusion
    recognisers: Mapping[str, Recognises]
    readers: Sequence[ReadsPrompts]
    inception: Inception | None

    def results(self, output: Path) -> dict[str, Any]:
        """Learn, draw and judge what is not there yet. What came of it, for run.json."""
        # Real photos first: who is usable is known before anything is drawn, and does not depend on a method.
        recipe, real = self.recipe, Real(output)
        people, failed = judge_people(recipe, self.model, self.recognisers, real)
        people = [person for person in people if person.number not in {each["person"] for each in failed}]
        if len(people) < recipe.least_people:
            left = f"{counted(len(people), 'person')} left without a failure"
            reasons = few(dict.fromkeys(each["why"].rstrip(".") for each in failed), "; ")
            raise DataError(left, f"{recipe.least_people} are needed", reasons)
        numbers = [person.number for person in people]
        pictures = list_pictures(recipe, numbers, output)
        draw(recipe, self.model, (picture for images in pictures.values() for picture in images), output)

        rows = all_rows(recipe, numbers, pictures, real)
        scores, differences = scores_of_faces(rows, people, self.recognisers)
        write_png(output / "sheet.png", sheet_of(recipe, people[:SHOWN], pictures))
        if len(recipe.right) > 1:
            write_png(output / "curve.png", curve_of(recipe, next(iter(self.recognisers)), scores))
        sets = scores_of_sets(rows, numbers, real, self.inception)
        return {
            "format": 2,
            "people": numbers,
            "judges": judges_of(self.recognisers),
            "scores": [*scores, *scores_of_prompts(rows, self.readers), *sets],
            "readers": [reader.name for reader in self.readers],
            "differences": differences,
            "costs": costs_of(output / COSTS, recipe),
            "failed": failed,
            "tracks": {name: {"prompts": track.prompts, "images": track.images} for name, track in recipe.asked.items()},
            **named(self.inception),
        }

    def filled_in(self, before: Mapping[str, Any], output: Path) -> dict[str, Any]:
        """Results of a run that was finished, with what Inception says."""
        numbers, real = before["people"], Real(output)
        rows = all_rows(self.recipe, numbers, list_pictures(self.recipe, numbers, output), real)
        kept = [score for score in before["scores"] if score["metric"] not in SETS]
        sets = scores_of_sets(rows, numbers, real, self.inception)
        return {**before, "scores": [*kept, *sets], **named(self.inception)}


def finished(output: Path) -> dict[str, Any] | None:
    """The results of a run that is done and in which nothing failed."""
    if not (output / RECORD).exists():
        return None
    record = read_record(output / RECORD, kind="experiment")
    read_results(record)
    results: dict[str, Any] = record["results"]
    if missing := [key for key in ("failed", "people", "scores", "inception") if key not in results]:
        raise CheckpointError(f"{output / RECORD} has no {missing[0]}", "the record of this experiment is needed", "Remove it")
    return None if results["failed"] else results


def finish(output: Path, settings: Mapping[str, Any], results: Mapping[str, Any], places: Mapping[str, str]) -> str:
    """Write the record, in which no place of this machine stands, and what is made of it. Gives the tables."""
    write_record(output / RECORD, kind="experiment", settings=settings, results=without_places(results, places))
    return write_tables(output)


def write_tables(output: Path) -> str:
    """Tables and page, from the record alone, so that a run that was killed before it wrote them has them at the next call."""
    text = markdown(read_record(output / RECORD, kind="experiment"))
    write_text(output / TABLE, text)
    write_page(output / RECORD)
    return text


def named(inception: Inception | None) -> dict[str, str]:
    """What run.json says of Inception."""
    return (
        {"inception": inception.name, "meaningless": inception.meaningless}
        if inception
        else {"inception": "", "meaningless": ""}
    )


def check_unseen(recipe: ExperimentRecipe) -> None:
    """Raises RecipeError if people that the package's model has learnt from are to test it."""
    folds = {row.fold for row in recipe.data.rows(recipe.split, needed=False)}
    if recipe.model == DEFAULT_MODEL and recipe.split == "test" and not folds <= {TEST_FOLD}:
        raise RecipeError(
            f"test people of fold {', '.join(map(str, sorted(folds - {TEST_FOLD})))}, and the model {recipe.model}",
            f"it was trained on all folds but {TEST_FOLD}",
            "Write people.jsonl without --fold, or name a model that you trained on this split",
        )


def settings_of(recipe: ExperimentRecipe, model: LatentDiffusion, recognisers: Iterable[str]) -> dict[str, Any]:
    """The recipe and what its names stood for: weights, data, recognisers and version. Ready for JSON."""
    trained = {name: Path(name) if Path(name).is_dir() else model.trained.get(name) for name in recipe.methods}
    settings = to_table(recipe) | {
        "against": recipe.baselines,
        "counts": [condition.photos for condition in recipe.right],
        "trained_methods": {
            name: digest_of(without_litter(folder, folder.glob("*.safetensors"))) for name, folder in trained.items() if folder
        },
        "tuned_methods": {name: file_digest(Path(name)) for name in recipe.methods if name.endswith(RECIPE)},
        "model_weights": model.name,
        "adapter": model.adapter_name,
        "encoder": model.encoder.name,
        "people_sha256": file_digest(recipe.data.people),
        "recognisers": list(recognisers),
        "tenth": version("tenth"),
    }
    plain: dict[str, Any] = without_places(json.loads(json.dumps(settings, default=str)), recipe.places)
    return plain


def claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this experiment's, or see that it is. Raises CheckpointError if it holds another or anything else."""
    path, action = output / SETTINGS, "Choose another folder, or remove this one"
    if path.is_file():
        before = settings_before(path)
        odd = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if odd:
            raise CheckpointError(f"{output} holds an experiment with another {few(odd)}", "a folder holds one", action)
    elif output.exists() and (not output.is_dir() or contents(output)):
        raise CheckpointError(f"{output} is not empty and holds no experiment", "an empty or new folder is needed", action)
    else:
        write_text(path, json.dumps(settings, indent=1) + "\n")


def settings_before(path: Path) -> dict[str, Any]:
    """What an experiment's folder is for. Earlier versions wrote absolute paths. Raises CheckpointError if it is damaged."""
    needed, action = "the settings of an experiment are needed", "Choose another folder, or remove this one"
    try:
        before = read_json(path)
    except (OSError, UnreadableError) as problem:
        raise CheckpointError(f"{path} {reason(problem)}", needed, action) from problem
    if not isinstance(before, dict):
        raise CheckpointError(f"{path} is no table", needed, action)
    return dict(without_places(before, names_of(before)))


def judge_people(
    recipe: ExperimentRecipe, model: LatentDiffusion, recognisers: Mapping[str, Recognises], real: Real
) -> tuple[list[Judged], list[dict[str, str]]]:
    """Part, judge and learn person after person; the photos of three people at most are in memory at a time.

    Left out, whatever the methods: who has too few distinct photos, and in whose references or held-out photos a
    recogniser finds no face at all. Gives what failed besides. Raises DataError if fewer than `least_people` remain, or one
    alone where photos of a stranger are needed, or if a stranger's photo is the person's own.
    """

    def usable() -> Iterator[tuple[Judged, Parted[Photo]]]:
        for number, parted in part_people(recipe.data, recipe.split, references=recipe.references, held_out=recipe.held_out):
            given, new = seen_as(recipe, parted.references), seen_as(recipe, parted.held_out)
            rows = [[read(recogniser, side) for side in (given, new)] for recogniser in recognisers.values()]
            judged = Judged(number, tuple(map(crop_of, parted.references)), *zip(*rows, strict=True))
            if judged.seen():
                real.save(number, judged.crops, list(map(crop_of, parted.held_out)))
                yield judged, parted

    people, failed = [], []
    for (judged, parted), (other, others) in with_next(progress(islice(usable(), recipe.most_people), desc="people")):
        people.append(judged)
        if other is not judged or not recipe.strangers:
            strangers = others.references[: recipe.strangers]
            check_strangers(strangers, parted)
            failed += learn(recipe, model, Person(judged.number, parted.references), strangers, real.output)
    needed = max(recipe.least_people, 2 if recipe.strangers else 1)
    if len(people) < needed:
        raise DataError(
            f"{counted(len(people), 'person')} of {recipe.split} with {recipe.references} references and a held-out photo",
            f"{needed} are needed",
            "Lower references or least_people, or check the folder of photos",
        )
    return people, failed


def read(recogniser: Recognises, pictures: Sequence[Pixels]) -> Rows:
    """Rows (K, D) of a few pictures, once for all experiments."""
    return extract(pictures, [recogniser], Store(default_store()))[recogniser.name]


def seen_as(recipe: ExperimentRecipe, photos: Iterable[Photo]) -> list[Pixels]:
    """What a recogniser sees of real photos."""
    return [crop_of(photo) if recipe.photos_as == "crop" else photo.pixels for photo in photos]


def all_rows(recipe: ExperimentRecipe, numbers: Sequence[str], pictures: Pictures, real: Real) -> AllRows:
    """The rows of every table, by track and condition."""
    return {
        (track, condition): rows_of(recipe, numbers, pictures, real, track, condition)
        for track in recipe.asked
        for condition in recipe.conditions_of(track)
    }
