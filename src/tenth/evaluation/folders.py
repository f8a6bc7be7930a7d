"""Two folders of images side by side: every metric that needs nothing but the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenth.core.cache import Store
from tenth.core.console import progress
from tenth.core.types import Features, Score
from tenth.evaluation.extractors.face_recognizer import DlibRecogniser
from tenth.evaluation.extractors.features import Extractor, Rows, extract
from tenth.evaluation.extractors.inception import Inception, features_of, logits_of
from tenth.evaluation.image_set import ImageFolder, list_images
from tenth.evaluation.metrics.frechet import with_faces
from tenth.evaluation.metrics.inputs import measured
from tenth.evaluation.registry import MEASURES, Measure
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import CONFIGS, ENCODER

ONE = "one person"  # the tag of everybody in a flat folder
NO_INCEPTION = "needs the Inception file; give it with --inception FILE (docs/metrics.md says where it is)"
NO_PEOPLE = "needs both folders flat, each of one person, or both with a folder for each person"
TAKEN_FOR_ONE = f"flat folders: identity takes each for {ONE}; for several, make a folder for each of them on both sides"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores in the order to show them. meaningless: '' or what belongs above every figure. notes: what to know besides."""

    scores: tuple[Score, ...]
    meaningless: str
    notes: tuple[str, ...]


Sides = tuple[Features, Features]  # generated, held out


def evaluate_folders(
    *, generated: Path, held_out: Path, face: Extractor, inception: Inception | None, store: Store
) -> Evaluation:
    """Every metric of two folders, each flat or with a folder for each person. face: a recogniser.

    What cannot be measured is unavailable, and says why. Raises DataError if a folder does not exist or has fewer than two
    images, PhotoError for a damaged image.
    """
    folders = (list_images(generated), list_images(held_out))
    extractors: list[Extractor] = [face] if inception is None else [face, inception]
    rows = [extract(progress(folder, desc=folder.directory.name), extractors, store) for folder in folders]
    views = _faces(folders, [found[face.name] for found in rows])
    if inception:
        views |= _pictures(folders, [found[inception.name] for found in rows])
    notes = [note for folder in folders for note in folder.notes()] + [TAKEN_FOR_ONE] * all(folder.flat for folder in folders)
    scores = tuple(_score(measure, views) for measure in MEASURES)
    return Evaluation(scores, inception.meaningless if inception else "", tuple(notes))


def dlib_recogniser() -> DlibRecogniser:
    """dlib's, around the pocket model's centre: what compares folders where no judge is given."""
    return DlibRecogniser(read_statistics(CONFIGS / ENCODER)[0].double().numpy())


def evaluation_to_json(evaluation: Evaluation) -> dict[str, Any]:
    """{"metrics": {NAME: {"value", "low", "high", "n", "better", "unavailable"}}}, and "meaningless" where figures are."""
    rows: dict[str, Any] = {}
    for score in evaluation.scores:
        row = asdict(score)
        rows[row.pop("name")] = row
    return {"metrics": rows} | ({"meaningless": evaluation.meaningless} if evaluation.meaningless else {})


def evaluation_to_table(evaluation: Evaluation) -> str:
    """A line for each metric: its value and interval, which way is better, how many it counts; or why there is none."""
    width = max(len(score.name) for score in evaluation.scores)
    lines = [f"{score.name:<{width}}  {_words(score)}" for score in evaluation.scores]
    return "\n".join([*[evaluation.meaningless] * bool(evaluation.meaningless), *lines])


def _faces(folders: tuple[ImageFolder, ImageFolder], rows: list[Rows]) -> dict[str, Sides]:
    """What is read of faces; without 'people' where the folders do not say who is who in the same way."""
    tagged = [
        Features(found, tuple(person or ONE for person in folder.people)) for folder, found in zip(folders, rows, strict=True)
    ]
    views = {"found": (tagged[0], tagged[1]), "faces": (with_faces(tagged[0]), with_faces(tagged[1]))}
    return views | ({"people": views["found"]} if folders[0].flat == folders[1].flat else {})


def _pictures(folders: tuple[ImageFolder, ImageFolder], rows: list[Rows]) -> dict[str, Sides]:
    people = [folder.people for folder in folders]
    return {
        "features": (Features(features_of(rows[0]), people[0]), Features(features_of(rows[1]), people[1])),
        "logits": (Features(logits_of(rows[0]), people[0]), Features(logits_of(rows[1]), people[1])),
    }


def _score(measure: Measure, views: Mapping[str, Sides]) -> Score:
    if measure.reads not in views:
        why = NO_PEOPLE if measure.reads == "people" else NO_INCEPTION
        return Score(measure.name, None, better=measure.better, unavailable=why)
    return measured(measure.name, measure.better, measure.metric, *views[measure.reads])


def _words(score: Score) -> str:
    if score.value is None:
        return f"-  {score.unavailable}"
    interval = "" if score.low is None or score.high is None else f" [{score.low:.4f}, {score.high:.4f}]"
    return f"{score.value:.4f}{interval}  {score.better} is better, n = {score.n}"
