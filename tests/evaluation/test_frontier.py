"""The area under a frontier, its interval over people and its differences, against computations that share no code with it."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.evaluation.frontier import area, compare_frontiers, on_frontier
from tenth.evaluation.metrics.bootstrap import expanded_tail, paired_difference, student_quantile
from tenth.evaluation.paired_comparison import holm

SETTINGS = np.array([[0.5, 0.42], [0.65, 0.40], [0.8, 0.36], [0.55, 0.35], [0.7, 0.33], [0.85, 0.28]])  # (S, 2)


def area_by_cells(points: np.ndarray, reference: tuple[float, float]) -> float:
    """In fractions: the plane is cut at every coordinate, and a cell counts if some point is beyond it in both."""
    exact = [(Fraction(x), Fraction(y)) for x, y in points.tolist()]
    first, second = (
        sorted({Fraction(reference[axis]), *(point[axis] for point in exact if point[axis] > reference[axis])})
        for axis in (0, 1)
    )
    cells = [(x, y) for x in pairwise(first) for y in pairwise(second)]
    return float(sum((x[1] - x[0]) * (y[1] - y[0]) for x, y in cells if any(a >= x[1] and b >= y[1] for a, b in exact)))


def simulated(settings: np.ndarray, people: int, draw: np.random.Generator, own: np.ndarray | None = None) -> np.ndarray:
    """(P, S, 2) of people whose own prompt score and similarity hold at all settings, with the noise of eight images."""
    own = draw.normal(0, [0.03, 0.1], (people, 2)) if own is None else own
    obeyed = draw.binomial(8, np.clip(settings[:, 0] + own[:, :1], 0, 1)) / 8
    return np.stack([obeyed, settings[:, 1] + own[:, 1:] + draw.normal(0, 0.04, obeyed.shape)], 2)


@pytest.mark.parametrize("reference", [(0.0, 0.0), (0.3, -0.2), (0.5, 0.5)])
def test_the_area_is_that_of_an_independent_computation(reference: tuple[float, float]) -> None:
    draw = np.random.default_rng(0)
    for count in (1, 2, 5, 12):
        many = draw.uniform(-0.2, 1, (20, count, 2)).round(draw.integers(1, 4))  # with ties
        expected = [area_by_cells(points, reference) for points in many]
        assert area(many, reference) == pytest.approx(expected, abs=1e-6)


def test_the_area_is_no_points_order_and_no_beaten_points() -> None:
    best = on_frontier(SETTINGS)
    assert best.tolist() == [True, True, True, False, False, True]
    assert area(SETTINGS[::-1]) == pytest.approx(area(SETTINGS), abs=1e-12)
    assert area(SETTINGS[best]) == pytest.approx(area(SETTINGS), abs=1e-12)
    assert area(SETTINGS + 0.01) > area(SETTINGS)
    assert area(np.array([[0.5, 0.4]])) == pytest.approx(0.2)
    assert area(np.array([[0.5, 0.4], [-1.0, 3.0]])) == pytest.approx(0.2)  # not above the reference point
    assert on_frontier(np.array([[0.5, 0.4], [0.5, 0.4], [0.5, 0.3]])).tolist() == [True, True, False]  # equal: none beats


def test_one_setting_is_the_mean_over_people_and_the_paired_difference() -> None:
    draw = np.random.default_rng(1)
    for people in (8, 40):  # all ways to swap, and random ones
        a, b = draw.normal(0.4, 0.1, (2, people))
        values = {name: np.stack([np.ones(people), each], 1)[:, None] for name, each in (("a", a), ("b", b))}
        areas, (difference,) = compare_frontiers(values)
        pair, tail = paired_difference(a, b), expanded_tail(0.95, people)
        high, low = np.quantile(a[draw.integers(people, size=(20_000, people))].mean(1), [1 - tail, tail])
        assert areas["a"].value == pytest.approx(a.mean())
        assert (areas["a"].low, areas["a"].high) == pytest.approx((2 * a.mean() - high, 2 * a.mean() - low), abs=0.01)
        assert (difference.value, difference.n) == (pytest.approx(pair.value), people)
        reach = student_quantile(0.95, people - 1) * (a - b).std(ddof=1) / np.sqrt(people)
        assert difference.high - difference.value == pytest.approx(reach, rel=0.05)
        assert difference.value - difference.low == pytest.approx(reach, rel=0.05)
        assert difference.p_value == pytest.approx(pair.p_value, abs=1e-12 if people == 8 else 0.02)


def test_the_interval_covers_the_truth_as_often_as_stated() -> None:
    truth, found = float(area(SETTINGS)), []
    for trial in range(300):
        areas, _ = compare_frontiers({"a": simulated(SETTINGS, 21, np.random.default_rng(trial))}, seed=trial, resamples=400)
        found.append(areas["a"].low <= truth <= areas["a"].high)
    assert 0.93 <= np.mean(found) <= 0.98  # 300 trials: a standard error of 0.013


def test_equally_good_settings_do_not_flatter_the_interval() -> None:
    equal = np.tile([0.7, 0.4], (6, 1))
    found, values = [], []
    for trial in range(200):
        areas, _ = compare_frontiers({"a": simulated(equal, 21, np.random.default_rng(trial))}, seed=trial, resamples=400)
        found.append(areas["a"].low <= 0.28 <= areas["a"].high)
        values.append(areas["a"].value)
    assert np.mean(values) > 0.29  # the best of six noisy points
    assert np.mean(found) >= 0.93  # plain quantiles cover it in half of the trials


def test_no_difference_is_seldom_significant_and_a_difference_is_seen() -> None:
    p_values = []
    for trial in range(100):
        draw = np.random.default_rng(trial)
        own = draw.normal(0, [0.03, 0.1], (12, 2))
        values = {name: simulated(SETTINGS, 12, draw, own) for name in "ab"}
        p_values.append(compare_frontiers(values, resamples=150)[1][0].p_value)
    assert 0 < np.mean(np.array(p_values) <= 0.05) <= 0.11  # 5 % of 100: a standard error of 0.022
    draw = np.random.default_rng(0)
    own = draw.normal(0, [0.03, 0.1], (21, 2))
    values = {"a": simulated(SETTINGS + 0.06, 21, draw, own), "b": simulated(SETTINGS, 21, draw, own)}
    (seen,) = compare_frontiers(values)[1]
    assert 0 < seen.low < seen.value < seen.high
    assert seen.p_value < 0.01


def test_pairs_are_in_order_corrected_and_turn_around() -> None:
    draw = np.random.default_rng(3)
    values = {name: simulated(SETTINGS, 9, draw) for name in "abc"}
    areas, pairs = compare_frontiers(values)
    assert [(each.method, each.baseline) for each in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [each.p_holm for each in pairs] == holm([each.p_value for each in pairs])
    assert pairs[1].value == pytest.approx(pairs[0].value + pairs[2].value)
    turned = compare_frontiers({"b": values["b"], "a": values["a"]})[1][0]
    assert (turned.value, turned.low, turned.high) == pytest.approx((-pairs[0].value, -pairs[0].high, -pairs[0].low))
    assert turned.p_value == pairs[0].p_value
    assert compare_frontiers(values) == (areas, pairs)  # the same seed, the same figures


def test_one_person_has_no_interval_and_equal_people_a_point() -> None:
    areas, (difference,) = compare_frontiers({"a": SETTINGS[None], "b": SETTINGS[None] + 0.1})
    assert (areas["a"].low, areas["a"].high, difference.low, difference.p_value) == (None, None, None, 1)
    same = compare_frontiers({"a": np.repeat(SETTINGS[None], 7, 0)})[0]["a"]
    assert (same.low, same.high) == pytest.approx((same.value, same.value))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"a": np.zeros((0, 6, 2))},
        {"a": np.zeros((3, 6))},
        {"a": np.zeros((3, 6, 2)), "b": np.zeros((3, 5, 2))},
        {"a": np.full((3, 6, 2), np.nan)},
    ],
)
def test_other_people_or_settings_are_refused(values: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match="the same people and settings"):
        compare_frontiers(values)
