"""Merged sums -> every figure that two folders have, with the same reasons where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import Features, Score
from tenth.evaluation.extractors.loading import DINOV2, FACE_QUALITY, INCEPTION, MISSING, VIEWS
from tenth.evaluation.folders import IN_FOLDERS, NO_ATTRIBUTES, NO_PEOPLE, NO_REFERENCES
from tenth.evaluation.metrics.frechet import extrapolate_distance, fit_gaussian, gaussian_distance, subset_sizes
from tenth.evaluation.metrics.inception_score import require_splits
from tenth.evaluation.metrics.inputs import require_images, validated_rows
from tenth.evaluation.metrics.mind import scaled_mean
from tenth.evaluation.metrics.precision_recall import require_neighbours
from tenth.evaluation.reduce.class_sums import ClassSums
from tenth.evaluation.reduce.kernel_sums import HeldOutKernel
from tenth.evaluation.reduce.moments import Moments
from tenth.evaluation.reduce.neighbours import PRECISION_K
from tenth.evaluation.reduce.part_statistics import PartStatistics
from tenth.evaluation.reduce.real_photos import RealPhotos
from tenth.evaluation.registry import METRICS, MetricSpec

# Whose pairs are all gone through, as KID and recall need it: 2e10 pairs. MIND sorts as many, in 80 MB.
MAX_PAIRED_IMAGES = 200_000


@dataclass(eq=False)
class SecondLook:
    """What needs all images to be counted first. A part that is not needed keeps its beginning.

    found: (M,), which held-out faces lie in a ball around a generated one. classes: of Inception. moments: of Inception and
    DINOv2. distances: sizes and Fréchet distances of `random_subsets`. transport: the sum of `wasserstein_sum` over directions.
    """

    found: npt.NDArray[np.bool_]
    classes: ClassSums
    moments: Mapping[str, Moments]
    distances: Sequence[tuple[int, float]] = ()
    transport: float = 0.0


def figure_names(real: RealPhotos) -> list[str]:
    """The metrics of a comparison with real photos, in the table's order: of folders, and of a threshold if one is stated."""
    known = IN_FOLDERS | ({"threshold"} if real.threshold is not None else set())
    return [name for name, metric in METRICS.items() if known.issuperset(metric.needs)]


def missing_figures(part: PartStatistics, real: RealPhotos, *, who_is_who: bool) -> dict[str, str]:
    """Metric -> why it cannot be measured on these images. part: of all of them.

    who_is_who: whether the held-out photos say it, where several people are generated.
    """
    reasons = {}
    for name in figure_names(real):
        try:
            _check(METRICS[name], part, real, who_is_who)
        except DataError as problem:
            reasons[name] = str(problem)
        except LookupError as problem:
            reasons[name] = str(problem.args[0])
    return reasons


def figures(
    people: Mapping[str, Score], part: PartStatistics, second: SecondLook, real: RealPhotos, missing: Mapping[str, str]
) -> dict[str, Score]:
    """Metric -> score. people: identity metrics. missing: as `missing_figures` gives it."""
    scores = dict(people)
    if "face-frechet-distance" not in missing:
        distance = gaussian_distance(part.faces.gaussian(), fit_gaussian(real.with_face))
        scores["face-frechet-distance"] = Score(distance, n=part.faces.count)
    if part.faces.count and len(real.with_face):
        scores |= part.neighbours.scores()
        scores["recall"] = Score(float(second.found.mean()), n=part.faces.count) if len(second.found) else Score(None)
    for name, network in (("fid", INCEPTION), ("fd-dinov2", DINOV2)):
        if name not in missing:
            photos = fit_gaussian(VIEWS[network].rows(real.networks[network]))
            scores[name] = Score(gaussian_distance(second.moments[network].gaussian(), photos), n=part.images)
    if "fid-infinity" not in missing:
        sizes, distances = zip(*second.distances, strict=True)
        scores["fid-infinity"] = Score(extrapolate_distance(sizes, distances), n=part.images)
    if "kid" not in missing:
        scores["kid"] = part.kernel.score(HeldOutKernel.of(real.pooled))
    if "mind" not in missing:
        scores["mind"] = Score(scaled_mean(second.transport, real.pooled.shape[1]), n=part.images)
    if "face-quality" not in missing:
        scores["face-quality"] = part.quality.score()
    if "inception-score" not in missing:
        scores["inception-score"] = second.classes.score()
    return {name: Score(None, unavailable=missing[name]) if name in missing else scores[name] for name in figure_names(real)}


def _check(metric: MetricSpec, part: PartStatistics, real: RealPhotos, who_is_who: bool) -> None:
    """Raises DataError for too few images, or more than can be paired; LookupError for a need that nothing fills."""
    network = next((VIEWS[need].network for need in metric.needs if need in VIEWS), "")
    if network and network not in real.networks and not (network == FACE_QUALITY and part.quality.images):
        raise LookupError(MISSING[network])
    if "people" in metric.needs and not who_is_who:
        raise LookupError(NO_PEOPLE)
    if "references" in metric.needs and real.references is None:
        raise LookupError(NO_REFERENCES)
    if "attributes" in metric.needs and real.attributes is None:
        raise LookupError(NO_ATTRIBUTES)

    # Both sides, generated first.
    if "features" in metric.needs or metric.name == "face-frechet-distance":
        least = 1 if "features" in metric.needs else 2
        require_images(part.faces.count, 0, "generated", least)
        require_images(len(real.with_face), 0, "held-out", least)
    if network in part.broken and "logits" not in metric.needs:
        require_images(part.images, part.broken[network], "generated")
        validated_rows(Features(VIEWS[network].rows(real.networks[network]), ()), "held-out")

    # What one of them needs beside.
    if metric.name == "inception-score":
        require_images(part.images, part.broken[INCEPTION], "generated", 1)
        require_splits(part.images)
    if metric.name == "fid-infinity":
        subset_sizes(part.images)
    if metric.name == "recall":
        require_neighbours(part.faces.count, PRECISION_K, "generated")
    if metric.name in ("recall", "kid", "mind") and part.images > MAX_PAIRED_IMAGES:
        what = "sorts" if metric.name == "mind" else "compares all pairs of"
        found, needed = f"{part.images:,} images", f"it {what} at most {MAX_PAIRED_IMAGES:,}"
        raise DataError(found, needed, "Evaluate fewer, or read the other figures")
