"""Two folders of images side by side: every metric that needs nothing but the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenth.core.cache import ArrayCache
from tenth.core.console import track
from tenth.core.errors import DataError
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

IN_FOLDERS = {"faces", "people", "references", "features", "inception", "logits"}  # what metrics of folders may need
SINGLE_PERSON = "one person"  # the tag of everybody in a flat folder
NO_INCEPTION = "needs the Inception file; give it with --inception FILE (docs/metrics.md says where it is)"
NO_REFERENCES = "needs the photos that the method was given; give them with --references DIR"
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


Sides = tuple[Features, ...]  # generated, held out; under "references" these too


def evaluate_folders(
    *,
    generated: Path,
    held_out: Path,
    references: Path | None = None,
    recognizer: Extractor,
    inception: Inception | None,
    store: ArrayCache,
) -> FolderEvaluation:
    """Every metric of two folders, each flat or with a folder for each person. recognizer: of faces.

    references: the photos that the method was given, in the same layout, for the copy-paste index; one is enough.
    What cannot be measured is unavailable, and says why. Raises DataError if a folder does not exist or has fewer than two
    images, or references have another layout, PhotoError for a damaged image.
    """
    # Each image is read once, by all that need it; of the references only faces are compared.
    folders = [list_images(generated), list_images(held_out)]
    extractors: list[Extractor] = [recognizer] if inception is None else [recognizer, inception]
    sizes: list[set[tuple[int, int]]] = [set(), set()]
    rows = [
        extract_features(_with_sizes(track(folder, folder.directory.name), found), extractors, store)
        for folder, found in zip(folders, sizes, strict=True)
    ]
    if references is not None:
        folders.append(_list_references(references, folders[0]))
        sizes.append(set())
        images = _with_sizes(track(folders[2], folders[2].directory.name), sizes[2])
        rows.append(extract_features(images, [recognizer], store))

    # What the metrics read, and what to know of the folders.
    views = _face_views(folders, [found[recognizer.name] for found in rows])
    if inception:
        views |= _inception_views(folders, [found[inception.name] for found in rows[:2]])
    notes = [note for folder, found in zip(folders, sizes, strict=True) for note in folder.notes(found)]
    if all(folder.is_flat for folder in folders):
        notes.append(FLAT_FOLDERS_NOTE)

    # Every metric that folders can have.
    scores = {name: _score_metric(metric, views) for name, metric in METRICS.items() if IN_FOLDERS.issuperset(metric.needs)}
    return FolderEvaluation(scores, inception.disclaimer if inception else "", tuple(notes))


def _with_sizes(images: Iterable[Pixels], sizes: set[tuple[int, int]]) -> Iterator[Pixels]:
    """The images, whose sizes, (width, height) pixels, are added to `sizes` as they pass."""
    for pixels in images:
        sizes.add((pixels.shape[1], pixels.shape[0]))
        yield pixels


def dlib_recognizer() -> DlibRecognizer:
    """dlib's, around the pocket model's centre: what compares folders where no recognizer is given."""
    return DlibRecognizer(read_statistics(MODEL_DIR / STATISTICS_PATH)[0].double().numpy())


def evaluation_to_json(evaluation: FolderEvaluation) -> dict[str, Any]:
    """{"metrics": {NAME: a Score's fields and "higher_is_better"}}, and "disclaimer" where figures are."""
    rows = {
        name: asdict(score) | {"higher_is_better": METRICS[name].higher_is_better} for name, score in evaluation.scores.items()
    }
    return {"metrics": rows} | ({"disclaimer": evaluation.disclaimer} if evaluation.disclaimer else {})


def evaluation_to_table(evaluation: FolderEvaluation) -> str:
    """A line for each metric: its value and interval, which way is better, how many it counts; or why there is none."""
    width = max(map(len, evaluation.scores))
    lines = [f"{name:<{width}}  {_format_score(METRICS[name], score)}" for name, score in evaluation.scores.items()]
    return "\n".join([*[evaluation.disclaimer] * bool(evaluation.disclaimer), *lines])


def _list_references(directory: Path, generated: ImageFolder) -> ImageFolder:
    """The photos that the method was given. Raises DataError where they do not say who is who as the images do."""
    references = list_images(directory, min_images=1)
    if references.is_flat != generated.is_flat:
        raise DataError(
            f"{directory} has {'no' if references.is_flat else 'a'} folder for each person",
            f"the layout of {generated.directory} is needed",
            "Put the photos into folders, or give one person's",
        )
    return references


def _face_views(folders: Sequence[ImageFolder], rows: Sequence[FeatureArray]) -> dict[str, Sides]:
    """What is read of faces; without 'people' where the folders do not say who is who in the same way."""
    features = tuple(
        Features(found, tuple(person or SINGLE_PERSON for person in folder.people))
        for folder, found in zip(folders, rows, strict=True)
    )
    views = {"faces": features[:2], "features": tuple(map(drop_missing_faces, features[:2]))}
    if len(features) > 2:
        views["references"] = features
    if folders[0].is_flat == folders[1].is_flat:
        views["people"] = features[:2]
    return views


def _inception_views(folders: Sequence[ImageFolder], rows: Sequence[FeatureArray]) -> dict[str, Sides]:
    people = [folder.people for folder in folders]
    return {
        "inception": (Features(features_of(rows[0]), people[0]), Features(features_of(rows[1]), people[1])),
        "logits": (Features(logits_of(rows[0]), people[0]), Features(logits_of(rows[1]), people[1])),
    }


def _score_metric(metric: MetricSpec, views: Mapping[str, Sides]) -> Score:
    missing = [need for need in metric.needs if need not in views]
    if missing:
        reasons = {"people": NO_PEOPLE, "references": NO_REFERENCES}
        return Score(None, unavailable=reasons.get(missing[0], NO_INCEPTION))
    view = "references" if "references" in metric.needs else metric.needs[0]
    return score_or_unavailable(metric.function, *views[view])


def _format_score(metric: MetricSpec, score: Score) -> str:
    if score.value is None:
        return f"-  {score.unavailable}"
    interval = "" if score.low is None or score.high is None else f" [{score.low:.4f}, {score.high:.4f}]"
    better = "higher" if metric.higher_is_better else "lower"
    return f"{score.value:.4f}{interval}  {better} is better, n = {score.n}"
