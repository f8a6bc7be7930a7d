"""Differences between frontiers by settings chosen on other people: right where settings tie, in one method or in both."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from tenth.evaluation.cross_fitting import CrossFitted, difference_interval, label_swap, swap_signs, transferred_area
from tenth.evaluation.frontier import area, compare_frontiers

TIED = np.tile([0.7, 0.4], (9, 1))  # (S, 2)
APART = np.concatenate([[[0.7, 0.4]], np.tile([0.5, 0.3], (8, 1))])  # of the same area
ORIGIN = (0.0, 0.0)


def simulated(settings: np.ndarray, own: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """(P, S, 2) of people whose own scores, (P, 2), hold at all settings, with noise of each image."""
    noise = draw.normal(0, [0.15, 0.04], (len(own), *settings.shape))
    return settings + own[:, None] + noise


def fitted(settings: np.ndarray, own: np.ndarray, draw: np.random.Generator, trial: int) -> CrossFitted:
    return CrossFitted(simulated(settings, own, draw), ORIGIN, seed=trial, resamples=300)


@pytest.mark.parametrize("reference", [(0.0, 0.0), (0.3, -0.2), (0.5, 0.5)])
def test_settings_that_are_scored_where_they_were_chosen_have_the_area(reference: tuple[float, float]) -> None:
    draw = np.random.default_rng(0)
    for count in (1, 2, 5, 12):
        many = draw.uniform(-0.2, 1, (50, count, 2)).round(draw.integers(1, 4))  # with ties
        assert transferred_area(many, many, reference) == pytest.approx(area(many, reference), abs=1e-12)


def test_what_is_scored_has_no_part_in_the_choice() -> None:
    chosen_on = np.array([[0.5, 0.4], [0.8, 0.2], [0.4, 0.3]])  # the third is beaten
    scored_on = np.array([[0.6, 0.5], [0.9, 0.1], [2.0, 2.0]])
    assert transferred_area(chosen_on, scored_on) == pytest.approx((0.9 - 0.6) * 0.1 + 0.6 * 0.5)
    assert transferred_area(chosen_on - 1, scored_on) == 0  # nothing above the reference point was seen


def test_a_methods_area_is_not_flattered() -> None:
    """All settings are equally good: chosen and scored on the same people, the best of nine is better than it is."""
    found = []
    for trial in range(60):
        draw = np.random.default_rng(trial)
        values = simulated(TIED, draw.normal(0, [0.03, 0.1], (21, 2)), draw)
        found.append((CrossFitted(values, ORIGIN, seed=trial, resamples=1).area, float(area(values.mean(0)))))
    cross, plugged_in = np.mean(found, 0)
    assert plugged_in > 0.29 > 0.285 > cross > 0.275


@pytest.mark.parametrize(("first", "second"), [(TIED, TIED), (TIED, APART), (APART, APART)])
def test_the_interval_of_a_difference_covers_the_truth_whichever_settings_tie(first: np.ndarray, second: np.ndarray) -> None:
    covered = []
    for trial in range(150):
        draw = np.random.default_rng(trial)
        own = draw.normal(0, [0.03, 0.1], (21, 2))
        a, b = fitted(first, own, draw, trial), fitted(second, own, draw, trial)
        found = difference_interval(a, b, (a.resampled(), b.resampled()))
        assert found.low is not None
        assert found.high is not None
        covered.append(found.low <= 0 <= found.high)
    assert np.mean(covered) >= 0.92  # 150 trials: a standard error of 0.018


def test_equally_good_settings_are_no_better_than_a_single_one_as_good() -> None:
    """Where the areas are equal p is seldom small, though the estimate of the tied settings' area is higher."""
    p_values, flattered = [], 0.0
    for trial in range(80):
        draw = np.random.default_rng(trial)
        own = draw.normal(0, [0.03, 0.1], (21, 2))
        values = {"tied": simulated(TIED, own, draw), "apart": simulated(APART, own, draw)}
        areas, _ = compare_frontiers(values, resamples=20)
        flattered += (areas["tied"].value - areas["apart"].value) / 80
        a, b = (CrossFitted(each, ORIGIN, seed=trial, resamples=1) for each in values.values())
        p_values.append(label_swap(a, b, swap_signs(21, trial, 150)))
    assert flattered > 0.01
    assert np.mean(np.array(p_values) <= 0.05) <= 0.11  # 5 % of 80: a standard error of 0.024; plugged in it is a third


def test_few_people_have_a_difference_and_one_has_no_interval() -> None:
    draw = np.random.default_rng(0)
    for people in (1, 2, 3):
        values = {name: simulated(TIED, np.zeros((people, 2)), draw) for name in "ab"}
        (found,) = compare_frontiers(values, resamples=100)[1]
        assert np.isfinite(found.value)
        assert (found.low is None) == (people == 1)
        assert found.low is None or found.low < found.value < found.high
        assert found.p_value in {share / 2**people for share in range(1, 2**people + 1)}


def test_the_halves_are_the_same_for_all_methods_and_each_person_counts_once() -> None:
    draw = np.random.default_rng(0)
    values = np.stack([np.ones((7, 1)), draw.normal(0.5, 0.1, (7, 1))], 2)  # one setting: a mean over people
    found, other = (CrossFitted(each, ORIGIN, seed=3, resamples=10) for each in (values, values + 1))
    assert found.area == pytest.approx(values[..., 1].mean(), abs=1e-12)
    assert np.array_equal(found.halves, other.halves)
    assert set(found.halves.sum(1)) == {3}
    assert found.resampled().shape == (2, 10, 2)
    assert swap_signs(3, 0, 10).tolist() == [list(each) for each in product((1.0, -1.0), repeat=3)]
