"""Two folders of images side by side: every metric that needs nothing but the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from tenth.core.cache import ArrayCache
from tenth.core.console import track
from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Pixels, Score
from tenth.data.captions.person_attributes import attributes_of_people
from tenth.data.manifest import iterate_manifest
from tenth.evaluation.extractors.features import Extractor, extract_features
from tenth.evaluation.extractors.loading import MISSING, VIEWS, disclaimers
from tenth.evaluation.image_set import ImageFolder, list_images
from tenth.evaluation.metrics.frechet import drop_missing_faces
from tenth.evaluation.metrics.inputs import score_or_unavailable
from tenth.evaluation.metrics.recognition.groups import Attributes
from tenth.evaluation.registry import METRICS, MetricSpec

IN_FOLDERS = {"faces", "people", "references", "attributes", "features", *VIEWS}  # what metrics of folders may need
SINGLE_PERSON = "one person"  # the tag of everybody in a flat folder
NO_REFERENCES = "needs the photos that the method was given; give them with --references DIR"
NO_ATTRIBUTES = "needs who is a man and who a woman; give a people list with captions by --people FILE"
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


@dataclass(frozen=True, eq=False)
class RealFolders:
    """Photos that images are compared with, flat of one person or with a folder for each.

    references: those that the method was given, in the same layout; one is enough. people: a people list whose captions say
    who is a man and who a woman, by the names of the folders.
    """

    held_out: Path
    references: Path | None = None
    people: Path | None = None

    @cached_property
    def attributes(self) -> Attributes | None:
        """What the captions say of each person; None without a people list. Raises DataError if the list cannot be read."""
        if self.people is None:
            return None
        return attributes_of_people((row.person, row.captions) for row in iterate_manifest(self.people))


def evaluate_folders(
    *, generated: Path, real: RealFolders, recognizer: Extractor, networks: Mapping[str, Extractor], store: ArrayCache
) -> FolderEvaluation:
    """Every metric of two folders, each flat or with a folder for each person. recognizer: of faces.

    networks: as `load_networks` gives them; without one, the metrics that need it say so. Raises DataError if a folder is
    missing, has fewer than two images or another layout, PhotoError for a damaged image.
    """
    attributes = real.attributes

    # Each image is read once, by all that need it; of the references only faces are compared.
    folders = [list_images(generated), list_images(real.held_out)]
    if real.references is not None:
        folders.append(list_references(real.references, folders[0]))
    faces, measured, notes = list[Features](), {name: list[Features]() for name in networks}, list[str]()
    for index, folder in enumerate(folders):
        used = networks if index < 2 else {}
        rows = measure_folder(folder, [recognizer, *used.values()], store, notes)
        people = tuple(person or SINGLE_PERSON for person in folder.people)
        faces.append(Features(rows[recognizer.name], people))
        for name, network in used.items():
            measured[name].append(Features(rows[network.name], people))
    if all(folder.is_flat for folder in folders):
        notes.append(FLAT_FOLDERS_NOTE)

    # What the metrics read; no people where the folders do not say who is who in the same way.
    views: dict[str, Sequence[Features]] = {"faces": faces[:2], "features": list(map(drop_missing_faces, faces[:2]))}
    views |= {"people": faces[:2]} if folders[0].is_flat == folders[1].is_flat else {}
    views |= {"references": faces} if real.references is not None else {}
    views |= {need: list(map(view.of, measured[view.network])) for need, view in VIEWS.items() if view.network in measured}

    # Every metric that folders can have.
    known = {name: metric for name, metric in METRICS.items() if IN_FOLDERS.issuperset(metric.needs)}
    scores = {name: _score_metric(metric, views, attributes) for name, metric in known.items()}
    return FolderEvaluation(scores, disclaimers(networks), tuple(notes))


def measure_folder(
    folder: ImageFolder, extractors: Sequence[Extractor], store: ArrayCache, notes: list[str]
) -> dict[str, FeatureArray]:
    """The features (N, D) of a folder's images, by extractor's name; what to know of the folder is added to `notes`."""
    sizes = set[tuple[int, int]]()
    rows = extract_features(_with_sizes(track(folder, folder.directory.name, "image"), sizes), extractors, store)
    notes += folder.notes(sizes)
    return rows


def _with_sizes(images: Iterable[Pixels], sizes: set[tuple[int, int]]) -> Iterator[Pixels]:
    """The images, whose sizes, (width, height) pixels, are added to `sizes` as they pass."""
    for pixels in images:
        sizes.add((pixels.shape[1], pixels.shape[0]))
        yield pixels


def evaluation_to_json(evaluation: FolderEvaluation) -> dict[str, Any]:
    """{"metrics": {NAME: a Score's fields and "higher_is_better"}}, and "disclaimer" where figures are."""
    rows = {
        name: asdict(score) | {"higher_is_better": METRICS[name].higher_is_better} for name, score in evaluation.scores.items()
    }
    return {"metrics": rows} | ({"disclaimer": evaluation.disclaimer} if evaluation.disclaimer else {})


def evaluation_to_table(evaluation: FolderEvaluation) -> str:
    """A line for each metric with a value: it, its interval, which way is better, how many it counts; then why others lack one.

    Metrics without a value for the same reason are in one line.
    """
    known = {name: score for name, score in evaluation.scores.items() if score.value is not None}
    width = max(map(len, known), default=0)
    lines = [f"{name:<{width}}  {_format_score(METRICS[name], score)}" for name, score in known.items()]
    without: dict[str, list[str]] = {}
    for name in evaluation.scores.keys() - known.keys():
        without.setdefault(evaluation.scores[name].unavailable.rstrip("."), []).append(name)
    lines += sorted(f"{', '.join(sorted(names))}: {reason}." for reason, names in without.items())
    return "\n".join([*[evaluation.disclaimer] * bool(evaluation.disclaimer), *lines])


def list_references(directory: Path, other: ImageFolder) -> ImageFolder:
    """The photos that the method was given. Raises DataError where they do not say who is who as the other side does."""
    references = list_images(directory, min_images=1)
    if references.is_flat != other.is_flat:
        found = f"{directory} has {'no' if references.is_flat else 'a'} folder for each person"
        action = "Put the photos into folders, or give one person's"
        raise DataError(found, f"the layout of {other.directory} is needed", action)
    return references


def _score_metric(metric: MetricSpec, views: Mapping[str, Sequence[Features]], attributes: Attributes | None) -> Score:
    given = {*views, *(["attributes"] if attributes is not None else [])}
    if missing := [need for need in metric.needs if need not in given]:
        need, reasons = missing[0], {"people": NO_PEOPLE, "references": NO_REFERENCES, "attributes": NO_ATTRIBUTES}
        return Score(None, unavailable=reasons[need] if need in reasons else MISSING[VIEWS[need].network])
    view = "references" if metric.needs[0] == "faces" and "references" in views else metric.needs[0]
    function = partial(metric.function, attributes=attributes) if "attributes" in metric.needs else metric.function
    return score_or_unavailable(function, *views[view])


def _format_score(metric: MetricSpec, score: Score) -> str:
    assert score.value is not None
    interval = "" if score.low is None or score.high is None else f" [{score.low:.4f}, {score.high:.4f}]"
    better = "higher" if metric.higher_is_better else "lower"
    return f"{score.value:.4f}{interval}  {better} is better, n = {score.n}"
