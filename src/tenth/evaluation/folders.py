"""Two folders of images side by side: every metric that needs nothing but the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenth.core.cache import ArrayCache
from tenth.core.console import track
from tenth.core.types import FeatureArray, Features, Pixels, Score
from tenth.evaluation.extractors.face_recognizer import DlibRecognizer
from tenth.evaluation.extractors.features import Extractor, extract_features
from tenth.evaluation.extractors.inception import Inception, features_of, logits_of
from tenth.evaluation.image_set import ImageFolder, list_images
from tenth.evaluation.metrics.frechet import drop_missing_faces
from tenth.evaluation.metrics.inputs import score_or_unavailable
from tenth.evaluation.registry import METRICS, MetricSpec
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH

IN_FOLDERS = {"faces", "people", "features", "inception", "logits"}  # what metrics of two folders may need
SINGLE_PERSON = "one person"  # the tag of everybody in a flat folder
NO_INCEPTION = "needs the Inception file; give it with --inception FILE (docs/metrics.md says where it is)"
NO_PEOPLE = "needs both folders flat, each of one person, or both with a folder for each person"
FLAT_FOLDERS_NOTE = (
    f"flat folders: identity takes each for {SINGLE_PERSON}; for several, make a folder for each of them on both sides"
)


@dataclass(frozen=True, eq=False)
class FolderEvaluation:
    """Scores by metric, in the order to show them. disclaimer: '' or what belongs above every figure. notes: what to know."""

    scores: Mapping[str, Score]
    disclaimer: str
    notes: tuple[str, ...]


FeaturePair = tuple[Features, Features]  # generated, held out


def evaluate_folders(
    *, generated: Path, held_out: Path, recognizer: Extractor, inception: Inception | None, store: ArrayCache
) -> FolderEvaluation:
    """Every metric of two folders, each flat or with a folder for each person. recognizer: of faces.

    What cannot be measured is unavailable, and says why. Raises DataError if a folder does not exist or has fewer than two
    images, PhotoError for a damaged image.
    """
    folders = (list_images(generated), list_images(held_out))
    extractors: list[Extractor] = [recognizer] if inception is None else [recognizer, inception]
    sizes: list[set[tuple[int, int]]] = [set(), set()]
    rows = [
        extract_features(_with_sizes(track(folder, folder.directory.name), found), extractors, store)
        for folder, found in zip(folders, sizes, strict=True)
    ]
    views = _face_views(folders, [found[recognizer.name] for found in rows])
    if inception:
        views |= _inception_views(folders, [found[inception.name] for found in rows])
    notes = [note for folder, found in zip(folders, sizes, strict=True) for note in folder.notes(found)]
    if all(folder.is_flat for folder in folders):
        notes.append(FLAT_FOLDERS_NOTE)
    scores = {name: _score_metric(metric, views) for name, metric in METRICS.items() if IN_FOLDERS.issuperset(metric.needs)}
    return FolderEvaluation(scores, inception.disclaimer if inception else "", tuple(notes))


def _with_sizes(images: Iterable[Pixels], sizes: set[tuple[int, int]]) -> Iterator[Pixels]:
    """The images, whose sizes, (width, height) pixels, are added to `sizes` as they pass."""
    for pixels in images:
        sizes.add((pixels.shape[1], pixels.shape[0]))
        yield pixels


def dlib_recognizer() -> DlibRecognizer:
    """dlib's, around the pocket model's centre: what compares folders where no judge is given."""
    return DlibRecognizer(read_statistics(MODEL_DIR / STATISTICS_PATH)[0].double().numpy())


def evaluation_to_json(evaluation: FolderEvaluation) -> dict[str, Any]:
    """{"metrics": {NAME: a Score's fields and "higher_is_better"}}, and "meaningless" where figures are."""
    rows = {
        name: asdict(score) | {"higher_is_better": METRICS[name].higher_is_better} for name, score in evaluation.scores.items()
    }
    return {"metrics": rows} | ({"meaningless": evaluation.disclaimer} if evaluation.disclaimer else {})


def evaluation_to_table(evaluation: FolderEvaluation) -> str:
    """A line for each metric: its value and interval, which way is better, how many it counts; or why there is none."""
    width = max(map(len, evaluation.scores))
    lines = [f"{name:<{width}}  {_format_score(METRICS[name], score)}" for name, score in evaluation.scores.items()]
    return "\n".join([*[evaluation.disclaimer] * bool(evaluation.disclaimer), *lines])


def _face_views(folders: tuple[ImageFolder, ImageFolder], rows: list[FeatureArray]) -> dict[str, FeaturePair]:
    """What is read of faces; without 'people' where the folders do not say who is who in the same way."""
    features = [
        Features(found, tuple(person or SINGLE_PERSON for person in folder.people))
        for folder, found in zip(folders, rows, strict=True)
    ]
    views = {
        "faces": (features[0], features[1]),
        "features": (drop_missing_faces(features[0]), drop_missing_faces(features[1])),
    }
    return views | ({"people": views["faces"]} if folders[0].is_flat == folders[1].is_flat else {})


def _inception_views(folders: tuple[ImageFolder, ImageFolder], rows: list[FeatureArray]) -> dict[str, FeaturePair]:
    people = [folder.people for folder in folders]
    return {
        "inception": (Features(features_of(rows[0]), people[0]), Features(features_of(rows[1]), people[1])),
        "logits": (Features(logits_of(rows[0]), people[0]), Features(logits_of(rows[1]), people[1])),
    }


def _score_metric(metric: MetricSpec, views: Mapping[str, FeaturePair]) -> Score:
    missing = [need for need in metric.needs if need not in views]
    if missing:
        return Score(None, unavailable=NO_PEOPLE if missing[0] == "people" else NO_INCEPTION)
    return score_or_unavailable(metric.function, *views[metric.needs[0]])


def _format_score(metric: MetricSpec, score: Score) -> str:
    if score.value is None:
        return f"-  {score.unavailable}"
    interval = "" if score.low is None or score.high is None else f" [{score.low:.4f}, {score.high:.4f}]"
    better = "higher" if metric.higher_is_better else "lower"
    return f"{score.value:.4f}{interval}  {better} is better, n = {score.n}"
