"""Sums of parts, in any division and order, give the figures of the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial, reduce
from typing import Any

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.diversity import identity_diversity
from tenth.evaluation.metrics.frechet import fit_gaussian, gaussian_distance
from tenth.evaluation.metrics.identity import (
    copy_paste_index,
    face_detection_rate,
    identity_similarity,
    impostor_similarity,
    true_accept_rate,
)
from tenth.evaluation.metrics.inception_score import inception_score, splits_of_images
from tenth.evaluation.metrics.inputs import Metric, score_or_unavailable
from tenth.evaluation.metrics.kid import kid
from tenth.evaluation.metrics.precision_recall import Balls, coverage, density, precision, recall, slack_of
from tenth.evaluation.metrics.recognition import verification
from tenth.evaluation.metrics.recognition.groups import GENDER_METRICS
from tenth.evaluation.metrics.recognition.identification import RANK_METRICS
from tenth.evaluation.reduce.class_sums import ClassSums
from tenth.evaluation.reduce.kernel_sums import HeldOutKernel, KernelSums
from tenth.evaluation.reduce.moments import Moments
from tenth.evaluation.reduce.neighbours import HeldOutBalls, NeighbourCounts, found_photos, nearest_distances
from tenth.evaluation.reduce.person_sums import PersonSums, RealFaces
from tenth.evaluation.reduce.person_values import METRICS_OF_PEOPLE, PersonValues
from tenth.evaluation.registry import METRICS

THRESHOLD, DIM = 0.3, 8
ATTRIBUTES = {f"person {index}": {"male": index % 2 == 0} for index in range(14)}
PEOPLE = {
    "identity-similarity": identity_similarity,
    "impostor-similarity": impostor_similarity,
    "true-accept-rate": partial(true_accept_rate, threshold=THRESHOLD),
    "face-detection-rate": face_detection_rate,
    "copy-paste-index": copy_paste_index,
    "identity-diversity": identity_diversity,
    **{name: partial(METRICS[name].function, attributes=ATTRIBUTES) for name in GENDER_METRICS},
    **{name: METRICS[name].function for name in (*RANK_METRICS, *verification.FALSE_ACCEPT_RATES)},
}
# Where 60 images are cut: into two, into a part an image, with an empty part in front, within and behind, not at all.
DIVISIONS: tuple[list[int], ...] = ([], [30], list(range(1, 60)), [0, 7, 7, 60], [1], [59], [3, 20, 21, 44])


def cloud(seed: int, n: int, dim: int = DIM, shift: float = 0.0) -> FeatureArray:
    return shift + np.random.default_rng(seed).normal(size=(n, dim))


def tagged(rows: FeatureArray, people: int, missing: Sequence[int] = ()) -> Features:
    """Rows of so many people in turn, so that a person is in many parts; NaN where no face was found."""
    rows = rows.copy()
    rows[list(missing)] = np.nan
    return Features(rows, tuple(f"person {index % people}" for index in range(len(rows))))


def parts_of(count: int, cuts: Sequence[int], seed: int) -> list[np.ndarray]:
    """Indices of the parts, in an order of the parts that the seed says."""
    parts = np.split(np.arange(count), cuts)
    return [parts[index] for index in np.random.default_rng(seed).permutation(len(parts))]


def chosen(features: Features, part: np.ndarray) -> Features:
    return Features(features.vectors[part], tuple(features.people[index] for index in part))


def merged(sums: Sequence[Any], *, to_the_right: bool = False, by_tensors: bool = True) -> Any:
    """All of them, from the left or as a + (b + (c + ...)), each of them written and read before."""

    def add(a: Any, b: Any) -> Any:
        a.merge(b)
        return a

    kept = [type(each).from_tensors(each.to_tensors()) if by_tensors else each for each in sums]
    return reduce(lambda a, b: add(b, a), reversed(kept)) if to_the_right else reduce(add, kept)


def assert_equal(found: Score, expected: Score) -> None:
    assert (found.n, found.unavailable) == (expected.n, expected.unavailable)
    for name in ("value", "low", "high"):
        if asdict(expected)[name] is None:
            assert asdict(found)[name] is None
            continue
        assert asdict(found)[name] == pytest.approx(asdict(expected)[name], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("to_the_right", [False, True])
@pytest.mark.parametrize("cuts", DIVISIONS)
def test_moments_give_the_frechet_distance_of_the_whole(cuts: list[int], to_the_right: bool) -> None:
    for dim in (4, 100):  # fewer and more than images
        rows, other = cloud(1, 60, dim, shift=1e3), fit_gaussian(cloud(2, 50, dim, shift=1e3 + 0.5))
        sums = []
        for part in parts_of(60, cuts, seed=len(cuts)):
            sums.append(Moments(dim))
            sums[-1].update(rows[part])
        whole = merged(sums, to_the_right=to_the_right)
        assert whole.count == 60
        assert len(whole.root()) <= dim
        assert gaussian_distance(whole.gaussian(), other) == pytest.approx(
            gaussian_distance(fit_gaussian(rows), other), rel=1e-9
        )


def test_moments_of_nearly_flat_rows_keep_their_digits() -> None:
    """Variances from 1 to 1e-14: a sum of squares would have lost the small ones, and with them the distance."""
    scales = np.logspace(0, -7, DIM)
    rows, other = cloud(1, 600) * scales + 3, cloud(2, 500) * scales[::-1] + 3
    sums = [Moments(DIM) for _ in range(6)]
    for index, each in enumerate(sums):
        each.update(rows[100 * index : 100 * index + 100])
    expected = gaussian_distance(fit_gaussian(rows), fit_gaussian(other))
    assert gaussian_distance(merged(sums).gaussian(), fit_gaussian(other)) == pytest.approx(expected, rel=1e-11)


def test_moments_of_one_row_are_no_gaussian() -> None:
    moments = Moments(3)
    moments.update(np.ones((1, 3)))
    with pytest.raises(DataError, match="1 generated image; at least 2 are needed"):
        moments.gaussian()


@pytest.mark.parametrize("cuts", DIVISIONS)
def test_kernel_sums_give_the_kernel_distance_of_the_whole(cuts: list[int]) -> None:
    rows, photos = cloud(1, 60), cloud(2, 40, shift=0.3)
    parts, sums = parts_of(60, cuts, seed=len(cuts)), []
    for index, part in enumerate(parts):
        sums.append(KernelSums())
        sums[-1].update(rows[part], photos)
        for other in parts[:index]:
            sums[-1].update_pairs(rows[part], rows[other])
    assert_equal(
        merged(sums).score(HeldOutKernel.of(photos)),
        kid(generated=tagged(rows, 60), held_out=tagged(photos, 40)),
    )


@pytest.mark.parametrize("cuts", DIVISIONS)
def test_class_sums_give_the_inception_score_of_the_whole(cuts: list[int]) -> None:
    logits, split, sums = 3 * cloud(1, 60, 12), splits_of_images(60), []
    logits[:, 5] -= 2_000  # a class of no probability at all
    for part in parts_of(60, cuts, seed=len(cuts)):
        sums.append(ClassSums(12))
        sums[-1].update(logits[part], split[part])
    assert_equal(merged(sums).score(), inception_score(generated=tagged(logits, 1)))


@pytest.mark.parametrize("cuts", DIVISIONS)
def test_neighbour_counts_give_precision_density_and_coverage_of_the_whole(cuts: list[int]) -> None:
    rows, photos, sums = cloud(1, 60, 3), cloud(2, 40, 3, shift=0.3), []
    rows[:4] = photos[:4]  # on the edge of nothing, at the centre of a ball
    balls = HeldOutBalls(photos)
    for part in parts_of(60, cuts, seed=len(cuts)):
        sums.append(NeighbourCounts(40))
        sums[-1].update(rows[part], balls)
    metrics: dict[str, Metric] = {"precision": precision, "density": density, "coverage": coverage}
    whole, held_out = tagged(rows, 60), tagged(photos, 40)
    assert merged(sums).scores() == {name: each(generated=whole, held_out=held_out) for name, each in metrics.items()}


@pytest.mark.parametrize("cuts", DIVISIONS)
def test_balls_of_parts_find_the_photos_that_the_whole_finds(cuts: list[int]) -> None:
    rows, photos = cloud(1, 60, 3), cloud(2, 40, 3, shift=0.3)
    rows[10:14] = rows[:4]  # copies: balls without an extent
    parts = parts_of(60, cuts, seed=len(cuts))
    mean = rows.mean(0)
    shifted = [rows[part] - mean for part in parts]
    slack, found = slack_of(np.square(rows - mean).sum(), 60), np.zeros(40, bool)
    for part in shifted:
        found |= found_photos(Balls(mean, part, nearest_distances(part, shifted), slack), photos)
    assert found.mean() == recall(generated=tagged(rows, 60), held_out=tagged(photos, 40)).value


def person_scores(
    generated: Features, held_out: Features, references: Features | None, cuts: Sequence[int], *, to_the_right: bool = False
) -> dict[str, Score]:
    real, sums = RealFaces.of(held_out, references, THRESHOLD, ATTRIBUTES), []
    for part in parts_of(len(generated.people), cuts, seed=len(cuts)):
        sums.append(PersonSums())
        sums[-1].update(chosen(generated, part), real)
    values = PersonValues(real)
    people = merged(sums, to_the_right=to_the_right).people
    for person in sorted(people, reverse=True):  # in whatever order they become complete
        values.add(person, people[person])
    return values.scores()


def assert_people_equal(
    generated: Features, held_out: Features, references: Features | None, cuts: Sequence[int], *, to_the_right: bool = False
) -> dict[str, Score]:
    found = person_scores(generated, held_out, references, cuts, to_the_right=to_the_right)
    assert list(found) == list(METRICS_OF_PEOPLE)
    assert set(found) == set(PEOPLE)
    for name, metric in PEOPLE.items():
        assert_equal(found[name], score_or_unavailable(metric, generated, held_out, references))  # type: ignore[arg-type]
    return found


@pytest.fixture(autouse=True)
def fewer_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few pairs of two people are enough for a threshold, and a few resamples for its interval."""
    monkeypatch.setattr(verification, "MIN_FALSE_ACCEPTS", 0.05)
    monkeypatch.setattr(verification, "RESAMPLES", 200)


@pytest.mark.parametrize("to_the_right", [False, True])
@pytest.mark.parametrize("cuts", DIVISIONS)
def test_person_sums_give_every_identity_metric_of_the_whole(cuts: list[int], to_the_right: bool) -> None:
    """Values and intervals; 14 people, each in many parts; three images without a face."""
    generated, held_out = tagged(cloud(1, 60, shift=0.3), 14, [0, 8, 33]), tagged(cloud(2, 42, shift=0.3), 14, [9])
    found = assert_people_equal(generated, held_out, tagged(cloud(3, 42), 14), cuts, to_the_right=to_the_right)
    assert all(score.value is not None and score.low is not None for score in found.values())
    assert found["face-detection-rate"] == face_detection_rate(generated=generated, held_out=held_out)  # to the digit


@pytest.mark.parametrize("missing", [(), (3,), tuple(range(60))])
@pytest.mark.parametrize("people", [1, 2, 60])
def test_one_person_alone_people_with_one_image_and_nobody_with_a_face(people: int, missing: Sequence[int]) -> None:
    generated, held_out = tagged(cloud(1, 60), people, missing), tagged(cloud(2, 60), people)
    assert_people_equal(generated, held_out, tagged(cloud(3, 60), people), [20, 40])
    assert_people_equal(generated, held_out, None, [20, 40])


def test_real_photos_that_are_lacking_are_said_in_the_same_words() -> None:
    """Of the first person in order: no held-out face, no held-out photo, no reference, the same photo on both sides."""
    generated, held_out, references = tagged(cloud(1, 60), 7), tagged(cloud(2, 21), 7), tagged(cloud(3, 21), 7)
    found = assert_people_equal(generated, tagged(cloud(2, 21), 7, [2, 9, 16, 5, 12, 19]), references, [20, 40])
    assert found["identity-similarity"].unavailable.startswith("person 2 has no held-out photo with a face")
    found = assert_people_equal(generated, tagged(cloud(2, 20), 5), references, [20, 40])
    assert found["identity-similarity"].unavailable.startswith("person 5 has no held-out photo with a face")
    found = assert_people_equal(generated, held_out, tagged(cloud(3, 12), 6), [20, 40])
    assert found["copy-paste-index"].unavailable.startswith("person 6 has no reference photo with a face")
    twice = references.vectors.copy()
    twice[[3, 4]] = held_out.vectors[[3, 4]]
    found = assert_people_equal(generated, held_out, Features(twice, references.people), [20, 40])
    assert found["copy-paste-index"].unavailable.startswith("a held-out photo of person 3 is also a reference")
