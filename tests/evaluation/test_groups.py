"""Likeness by group: values by hand, the gap and its interval, and what is said where groups are too small."""

from __future__ import annotations

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics.identity import identity_similarity_per_person
from tenth.evaluation.metrics.recognition.groups import GENDER, GENDER_METRICS, gap_size, gender_gap, group_scores
from tenth.evaluation.registry import METRICS

PEOPLE = [f"person {index:02}" for index in range(40)]
ATTRIBUTES = {person: {"male": index % 4 > 0, "senior": index < 3} for index, person in enumerate(PEOPLE)}


def photos(seed: int, worse_women: float = 1.0) -> Features:
    """Three photos of everybody, those of women (one in four) with so many times the noise."""
    centres = np.random.default_rng(0).normal(size=(40, 1, 16))
    noise = np.where([ATTRIBUTES[person]["male"] for person in PEOPLE], 0.5, 0.5 * worse_women)
    rows = centres + noise[:, None, None] * np.random.default_rng(seed).normal(size=(40, 3, 16))
    return Features(rows.reshape(-1, 16), tuple(person for person in PEOPLE for _ in range(3)))


def test_groups_and_gap_are_means_over_their_people() -> None:
    values = identity_similarity_per_person(photos(1, 3.0), photos(2))
    found = group_scores(values, ATTRIBUTES, GENDER)
    men, women = ([values[who] for who in PEOPLE if ATTRIBUTES[who]["male"] is has] for has in (True, False))
    assert found.having.value == pytest.approx(sum(men) / 30, abs=1e-6)
    assert found.lacking.value == pytest.approx(sum(women) / 10, abs=1e-6)
    assert found.gap.value == pytest.approx(sum(men) / 30 - sum(women) / 10, abs=1e-6)
    assert (found.having.n, found.lacking.n, found.gap.n) == (30, 10, 40)
    for score in (found.having, found.lacking, found.gap):
        assert score.low < score.value < score.high


def test_the_gap_of_the_table_is_its_size_and_grows_with_the_difference() -> None:
    sides = [{"generated": photos(1, worse), "held_out": photos(2)} for worse in (1.0, 2.0, 4.0)]
    gaps = [gender_gap(**side, attributes=ATTRIBUTES) for side in sides]
    assert gaps[0].low == 0  # both signs are in its interval
    assert gaps[0].value < gaps[1].value < gaps[2].value
    assert gaps[2].low > gaps[0].high
    turned = {person: {"male": not each["male"]} for person, each in ATTRIBUTES.items()}
    assert gender_gap(**sides[2], attributes=turned).value == pytest.approx(gaps[2].value)


def test_anchor_groups_that_are_alike_have_no_gap() -> None:
    photo = photos(2)
    found = gender_gap(generated=photo, held_out=Features(photo.vectors * 2, photo.people), attributes=ATTRIBUTES)
    values = dict.fromkeys(PEOPLE, 0.5)
    assert (gap_size(values, ATTRIBUTES).value, gap_size(values, ATTRIBUTES).high) == (0, 0)
    assert found.value < 0.05


def test_other_attributes_are_groups_too_and_people_of_whom_nothing_is_known_are_in_none() -> None:
    values = identity_similarity_per_person(photos(1), photos(2))
    old = {person: {"senior": index < 6} for index, person in enumerate(PEOPLE[:30])}
    found = group_scores(values, old, "senior")
    assert (found.attribute, found.having.n, found.lacking.n, found.gap.n) == ("senior", 6, 24, 30)


def test_men_and_women_have_their_rows() -> None:
    sides = {"generated": photos(1, 3.0), "held_out": photos(2), "attributes": ATTRIBUTES}
    found = {name: METRICS[name].function(**sides) for name in GENDER_METRICS}
    assert (found["men-similarity"].n, found["women-similarity"].n) == (30, 10)
    gap = found["men-similarity"].value - found["women-similarity"].value
    assert found["gender-gap"].value == pytest.approx(gap, abs=1e-6)


def test_what_is_lacking_is_said() -> None:
    sides = {"generated": photos(1), "held_out": photos(2)}
    for nothing in (None, {}, {person: {"senior": True} for person in PEOPLE}):
        assert "says of nobody whether a man or a woman" in gender_gap(**sides, attributes=nothing).unavailable
    with pytest.raises(DataError, match="4 people known as not male; a group needs 5"):
        gender_gap(**sides, attributes={person: {"male": index > 3} for index, person in enumerate(PEOPLE)})
    assert gender_gap(**sides, attributes={**ATTRIBUTES, "person 00": {}}).n == 39
    assert "no other person" in gap_size({person: float("nan") for person in PEOPLE}, ATTRIBUTES).unavailable
