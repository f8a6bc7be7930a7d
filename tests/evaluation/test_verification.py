"""True accept rates at a threshold that pairs of two real people set, against lists of pairs, and their interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Features, Score
from tenth.evaluation.metrics.identity import by_person, score_over_people
from tenth.evaluation.metrics.recognition import verification
from tenth.evaluation.metrics.recognition.verification import (
    STATED,
    ImpostorPairs,
    real_faces,
    true_accept_rate_1e3,
    true_accept_rate_1e4,
)


def photos(seed: int, *, people: int = 18, each: int = 9, noise: float = 0.6, shift: int = 0) -> Features:
    """Photos around a direction per person, 16 wide; `shift` deals each person another's photos."""
    centres = np.roll(np.random.default_rng(0).normal(size=(people, 1, 16)), shift, 0)
    rows = centres + noise * np.random.default_rng(seed).normal(size=(people, each, 16))
    return Features(rows.reshape(-1, 16), tuple(f"person {index:02}" for index in range(people) for _ in range(each)))


def listed(features: Features) -> list[tuple[str, list[float]]]:
    rows = ([value / math.hypot(*row) for value in row] for row in features.vectors.tolist())
    return [(who, row) for who, row in zip(features.people, rows, strict=True) if not math.isnan(row[0])]


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def by_lists(generated: Features, held_out: Features, references: Features, rate: float) -> float:
    """All pairs in a list; the threshold is the first cosine that more of them would exceed than are allowed."""
    real = listed(held_out) + listed(references)
    impostors = sorted((cosine(a, b) for (who, a), (other, b) in itertools.combinations(real, 2) if who != other), reverse=True)
    threshold = impostors[int(rate * len(impostors))]
    shares = []
    for person in sorted(set(generated.people)):
        images = [row for who, row in listed(generated) if who == person]
        held = [row for who, row in listed(held_out) if who == person]
        accepted = sum(cosine(a, b) > threshold for a in images for b in held)
        shares.append(accepted / (generated.people.count(person) * len(held)))
    return sum(shares) / len(shares)


def test_the_rate_is_that_of_listing_all_pairs() -> None:
    generated, held_out, references = photos(1, each=4, noise=0.9), photos(2), photos(3, each=4)
    generated.vectors[5], held_out.vectors[11] = np.nan, np.nan
    found = true_accept_rate_1e3(generated=generated, held_out=held_out, references=references)
    assert found.value == pytest.approx(by_lists(generated, held_out, references, 1e-3), abs=1e-6)
    assert found.n == 18
    assert 0 < found.low < found.value < found.high < 1


def test_so_few_pairs_of_two_people_pass_as_the_rate_says() -> None:
    rows = by_person(photos(2, people=60, each=8))
    for rate in (1e-3, 1e-4):
        pairs = ImpostorPairs.of(rows, rate)
        cosines = [a @ b.T for a, b in itertools.combinations(rows.values(), 2)]
        everything = np.concatenate([each.ravel() for each in cosines])
        assert pairs.count == len(everything) == 60 * 59 // 2 * 64
        assert (everything > pairs.thresholds[STATED]).sum() == int(rate * pairs.count)
        assert (np.diff(pairs.thresholds) <= 0).all()  # more false accepts, a lower threshold


def test_chunks_of_photos_and_the_scale_of_rows_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"generated": photos(1, noise=0.9), "held_out": photos(2)}
    found = true_accept_rate_1e3(**sides)
    monkeypatch.setattr(verification, "CHUNK", 999)
    scaled = Features(sides["held_out"].vectors * 7, sides["held_out"].people)
    assert true_accept_rate_1e3(generated=sides["generated"], held_out=scaled).value == pytest.approx(found.value)


def test_a_resample_has_the_threshold_of_its_own_pairs() -> None:
    """Photos of the people that were drawn, as often as they were; copies of one person are no pair of two."""
    pairs = ImpostorPairs.of(by_person(photos(2, people=25, each=6)), 1e-3)
    weights, above = pairs.resampled
    for weight, found in list(zip(weights, above, strict=True))[:5]:
        drawn = np.repeat(np.arange(25), weight.astype(int))
        total = sum(36 for a, b in itertools.combinations(drawn, 2) if a != b)
        counts = np.cumsum([weight[a] * weight[b] for a, b in zip(pairs.first, pairs.second, strict=True)])
        assert found == sum(count <= 1e-3 * total + 1e-9 for count in counts)


def test_many_pairs_are_thinned_to_nearly_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = {"generated": photos(1, people=40, noise=0.9), "held_out": photos(2, people=40, each=10)}
    whole = true_accept_rate_1e3(**sides)
    monkeypatch.setattr(verification, "MAX_RANKED_PAIRS", 300)
    thinned = true_accept_rate_1e3(**sides)
    assert thinned.value == whole.value
    assert (thinned.low, thinned.high) == pytest.approx((whole.low, whole.high), abs=(whole.high - whole.low) / 10)


def test_references_are_real_photos_too() -> None:
    held_out, references = by_person(photos(2)), by_person(photos(3, each=5))
    both = real_faces(held_out, references)
    assert {len(rows) for rows in both.values()} == {14}
    assert ImpostorPairs.of(both, 1e-3).count == 18 * 17 // 2 * 14 * 14
    assert ImpostorPairs.of(real_faces(held_out, None), 1e-3).count == 18 * 17 // 2 * 81


def test_anchors_of_the_photos_themselves_and_of_another_person() -> None:
    held_out = photos(2, noise=0.1)
    assert true_accept_rate_1e3(generated=held_out, held_out=held_out).value == 1
    another = true_accept_rate_1e3(generated=photos(4, shift=1), held_out=photos(2)).value
    assert another <= 0.02  # pairs of two people, of whom one in a thousand passes over all


def test_controls_order_as_theory_says() -> None:
    """Held-out photos themselves, other real photos, worse images, another person; a stricter rate is never higher."""
    held_out = photos(2, people=40, each=12)
    rows = [held_out, photos(1, people=40), photos(1, people=40, noise=1.2), photos(1, people=40, shift=1)]
    values = [true_accept_rate_1e3(generated=images, held_out=held_out).value for images in rows]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4
    stricter = [true_accept_rate_1e4(generated=images, held_out=held_out).value for images in rows]
    assert all(a <= b for a, b in zip(stricter, values, strict=True))
    assert stricter[1] < values[1]


@pytest.mark.parametrize(("function", "needed"), [(true_accept_rate_1e3, "10,000"), (true_accept_rate_1e4, "100,000")])
def test_too_few_pairs_are_said_with_the_number_needed(
    function: Callable[..., Score], needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = photos(2, people=6, each=4)
    with pytest.raises(
        DataError, match=rf"240 pairs of two people's real photos; .* needs {needed}\. Add people or real photos"
    ):
        function(generated=few, held_out=few)
    monkeypatch.setattr(verification, "MAX_REAL_PHOTOS", 20)
    with pytest.raises(DataError, match="24 real photos; it compares all pairs of at most 20"):
        function(generated=few, held_out=few)


def test_a_person_without_a_held_out_face_and_one_person_alone() -> None:
    with pytest.raises(DataError, match="person 17 has no held-out photo with a face"):
        true_accept_rate_1e3(generated=photos(1), held_out=photos(2, people=17, each=10))
    one = true_accept_rate_1e3(generated=photos(1, people=1), held_out=photos(2))
    assert (one.n, one.low, one.high) == (1, None, None)


def test_the_interval_covers_the_truth_as_often_as_stated_where_a_fixed_threshold_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty people whose own threshold errs: the truth is that of many."""
    monkeypatch.setattr(verification, "RESAMPLES", 400)

    def people(count: int, seed: int) -> tuple[Features, Features]:
        draw = np.random.default_rng([count, seed])
        centres, tags = draw.normal(size=(count, 1, 16)), tuple(f"{index:04}" for index in range(count) for _ in range(8))
        held_out, images = (centres + noise * draw.normal(size=(count, 8, 16)) for noise in (0.5, 0.9))
        return Features(images.reshape(-1, 16), tags), Features(held_out.reshape(-1, 16), tags)

    truth = np.mean([measured(*people(250, seed))[0].value for seed in range(3)])
    found = [measured(*people(20, trial)) for trial in range(200)]
    covered, fixed = (np.mean([each.low <= truth <= each.high for each in side]) for side in zip(*found, strict=True))
    assert 0.915 <= covered <= 0.985  # 200 trials: a standard error of 0.015
    assert fixed < covered - 0.03


def measured(generated: Features, held_out: Features) -> tuple[Score, Score]:
    """The score at a rate of 1e-3, and what the threshold's own error left out would give."""
    photos_of = by_person(held_out)
    pairs = ImpostorPairs.of(photos_of, 1e-3)
    shares = {person: pairs.accepted(rows, photos_of[person]) / (8 * 8) for person, rows in by_person(generated).items()}
    return pairs.score(shares), score_over_people({person: float(share[STATED]) for person, share in shares.items()})
