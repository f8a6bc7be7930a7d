"""Ranks of the right person, against sorting by hand, and of the controls in the order of theory."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Features, Score
from tenth.evaluation.metrics.recognition import identification
from tenth.evaluation.metrics.recognition.identification import (
    RANK_METRICS,
    lookalike_rank_one_rate,
    lookalike_reciprocal_rank,
    mean_reciprocal_rank,
    rank_one_rate,
)
from tenth.evaluation.registry import METRICS

FUNCTIONS = (mean_reciprocal_rank, rank_one_rate, lookalike_reciprocal_rank, lookalike_rank_one_rate)
NO_FACE = float("nan")


def photos(seed: int, *, people: int = 16, each: int = 4, noise: float = 1.0, shift: int = 0) -> Features:
    """Photos around a direction per person, 12 wide; `shift` deals each person another's photos."""
    centres = np.roll(np.random.default_rng(0).normal(size=(people, 1, 12)), shift, 0)
    rows = centres + noise * np.random.default_rng(seed).normal(size=(people, each, 12))
    return Features(rows.reshape(-1, 12), tuple(f"person {index:02}" for index in range(people) for _ in range(each)))


def at(**degrees: float | list[float]) -> Features:
    """anna=[0, 90] -> two rows of anna at these angles; NaN is a picture without a face."""
    tags = [(person, angle) for person, angles in degrees.items() for angle in np.atleast_1d(angles)]
    angles = np.radians([angle for _, angle in tags])
    return Features(np.column_stack([np.cos(angles), np.sin(angles)]), tuple(person for person, _ in tags))


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def by_sorting(generated: Features, held_out: Features) -> dict[str, float]:
    """The four metrics with lists and loops: everybody sorted by cosine, for each image."""
    people, templates = sorted(set(held_out.people)), {}
    for person in people:
        own = [row / math.hypot(*row) for row, who in zip(held_out.vectors, held_out.people, strict=True) if who == person]
        templates[person] = [math.fsum(column) / len(own) for column in zip(*own, strict=True)]
    sums: dict[str, dict[str, list[float]]] = {name: {person: [] for person in people} for name in RANK_METRICS}
    for row, person in zip(generated.vectors, generated.people, strict=True):
        others = sorted((who for who in people if who != person), key=lambda who: -cosine(templates[who], templates[person]))
        for names, rivals in ((RANK_METRICS[:2], others), (RANK_METRICS[2:], others[:10])):
            ordered = sorted([person, *rivals], key=lambda who: -cosine(list(row), templates[who]))
            rank = ordered.index(person) + 1 if not np.isnan(row).any() else math.inf
            sums[names[0]][person].append(1 / rank)
            sums[names[1]][person].append(float(rank == 1))
    return {name: np.mean([np.mean(values) for values in each.values()]).item() for name, each in sums.items()}


def scores(generated: Features, held_out: Features) -> dict[str, Score]:
    return {name: METRICS[name].function(generated=generated, held_out=held_out) for name in RANK_METRICS}


def test_ranks_are_those_of_sorting_everybody() -> None:
    generated, held_out = photos(1, people=24, noise=2.0), photos(2, people=24)
    generated.vectors[[3, 17]] = np.nan
    found, expected = scores(generated, held_out), by_sorting(generated, held_out)
    assert {name: score.value for name, score in found.items()} == pytest.approx(expected, abs=1e-6)
    assert len(set(expected.values())) == 4
    assert all(score.n == 24 and score.low is not None and score.low < expected[name] for name, score in found.items())
    assert [METRICS[name].function for name in RANK_METRICS] == list(FUNCTIONS)


def test_the_row_scale_and_the_order_of_people_do_not_matter() -> None:
    generated, held_out = photos(1, noise=2.0), photos(2)
    turned = Features(held_out.vectors[::-1] * 3, held_out.people[::-1])
    for name, score in scores(Features(generated.vectors * 7, generated.people), turned).items():
        assert score.value == pytest.approx(METRICS[name].function(generated=generated, held_out=held_out).value)


def test_anchors_the_right_person_first_and_another_never_first() -> None:
    held_out = photos(2, noise=0.2)
    assert {score.value for score in scores(held_out, held_out).values()} == {1.0}
    another = scores(photos(2, noise=0.2, shift=1), held_out)
    assert another["rank-1-rate"].value == another["lookalike-rank-1-rate"].value == 0
    assert another["mean-reciprocal-rank"].value <= 0.5


def test_anchor_people_who_cannot_be_told_apart_share_the_ranks() -> None:
    same = Features(np.tile(photos(1).vectors[:1], (64, 1)), photos(1).people)
    values = {name: score.value for name, score in scores(same, same).items()}
    assert values == pytest.approx(dict(zip(RANK_METRICS, (2 / 17, 1 / 16, 2 / 12, 1 / 11), strict=True)))


def test_anchor_images_of_nobody_have_the_ranks_of_chance() -> None:
    """1 / P, and the harmonic number over P, where every rank is as likely."""
    draw = np.random.default_rng(5)
    nobody = Features(draw.normal(size=(16 * 400, 12)), tuple(f"person {index % 16:02}" for index in range(16 * 400)))
    everybody = Features(np.eye(16)[:, :], tuple(f"person {index:02}" for index in range(16)))
    found = scores(Features(draw.normal(size=(16 * 400, 16)), nobody.people), everybody)
    assert found["rank-1-rate"].value == pytest.approx(1 / 16, abs=0.01)
    assert found["mean-reciprocal-rank"].value == pytest.approx(sum(1 / rank for rank in range(1, 17)) / 16, abs=0.01)


def test_controls_order_as_theory_says() -> None:
    """Held-out photos themselves, other real photos, worse images, a mixture with another person, another person."""
    held_out, real, worse = photos(2), photos(1), photos(1, noise=2.5)
    mixed = Features((photos(1).vectors + photos(1, shift=1).vectors) / 2, real.people)
    rows = [scores(images, held_out) for images in (held_out, real, worse, photos(1, shift=1))]
    for name in RANK_METRICS:
        values = [row[name].value for row in rows]
        assert values == sorted(values, reverse=True)
        assert values[0] > values[2] > values[3]
        assert values[1] > scores(mixed, held_out)[name].value > values[3]
    for row in rows:  # ten look-alikes are some of all people
        assert row["lookalike-rank-1-rate"].value >= row["rank-1-rate"].value
        assert row["lookalike-reciprocal-rank"].value >= row["mean-reciprocal-rank"].value


def test_an_image_without_a_face_counts_nothing() -> None:
    held_out = at(anna=0, bert=90)
    assert rank_one_rate(generated=at(anna=[0, NO_FACE], bert=90), held_out=held_out).value == 0.75
    assert mean_reciprocal_rank(generated=at(anna=[NO_FACE], bert=80), held_out=held_out).value == 0.5


def test_people_without_images_are_ranked_too() -> None:
    held_out = at(anna=0, bert=20, carl=40)
    found = mean_reciprocal_rank(generated=at(anna=35), held_out=held_out)
    assert (found.value, found.n) == (pytest.approx(1 / 3), 1)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_lacking_is_said(function: Callable[..., Score], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="1 person; a rank is among 2 to 20,000 people"):
        function(generated=at(anna=0), held_out=at(anna=0))
    with pytest.raises(DataError, match="bert has no held-out photo with a face"):
        function(generated=at(anna=0), held_out=at(anna=0, bert=NO_FACE))
    with pytest.raises(DataError, match="person 12 has no held-out photo with a face"):
        function(generated=photos(1), held_out=photos(2, people=12))
    if "lookalike" in function.__name__:
        with pytest.raises(DataError, match="9 other people; the 10 nearest are needed"):
            function(generated=photos(1, people=10), held_out=photos(2, people=10))
    monkeypatch.setattr(identification, "MAX_GALLERY", 15)
    with pytest.raises(DataError, match="16 people; a rank is among 2 to 15 people"):
        function(generated=photos(1), held_out=photos(2))
