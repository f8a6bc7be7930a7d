"""Agreement of recognizers: against the textbook, on people drawn by chance, and where there is nothing to say."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tenth.evaluation.recognizer_agreement import agreements, rank_correlation

METHODS = ("one", "two", "three", "four", "five")
Array = npt.NDArray[np.float64]


def tables(*sides: Array) -> dict[str, dict[str, dict[str, float]]]:
    """recognizer -> method -> person -> value of arrays (P, M)."""
    return {
        f"recognizer-{index}": {
            method: {f"{person:03}": float(value) for person, value in enumerate(column)}
            for method, column in zip(METHODS, side.T, strict=False)
        }
        for index, side in enumerate(sides)
    }


def people(rng: np.random.Generator, count: int, spread: float = 0.3) -> tuple[Array, Array]:
    """(P, M) by two recognizers: the methods' true means, what a person shares, and what each recognizer sees alone."""
    means = np.linspace(0.2, 0.6, len(METHODS)) + np.array([0, 0, 0.25, 0, -0.2])
    shared = rng.normal(0, spread, (count, len(METHODS)))
    first, second = (shared + rng.normal(0, spread, (count, len(METHODS))) for _ in range(2))
    return means + first, np.linspace(0.2, 0.6, len(METHODS)) + second


def spearman(a: Array, b: Array) -> float:
    """Pearson's correlation of ranks, each the mean of the places that its value has among the sorted ones."""
    ranks = [[np.mean([place for place, other in enumerate(sorted(row)) if other == value]) for value in row] for row in (a, b)]
    return float(np.corrcoef(ranks)[0, 1])


def test_correlations_are_the_textbooks_also_with_ties() -> None:
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 4])) == pytest.approx(1 - 6 * 2 / (4 * 15))
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (2, 50, 6)).astype(float)
    expected = [spearman(x, y) if len(set(x)) > 1 and len(set(y)) > 1 else 0.0 for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(rank_correlation(a, b), expected, atol=1e-12)
    assert rank_correlation(np.ones(3), np.arange(3.0)) == 0


def test_both_figures_are_those_computed_one_by_one() -> None:
    a, b = people(np.random.default_rng(1), 20)
    [found] = agreements(tables(a, b))
    assert (found.recognizer, found.other, found.num_methods) == ("recognizer-0", "recognizer-1", 5)
    assert found.between_methods.value == pytest.approx(spearman(a.mean(0), b.mean(0)), abs=1e-12)
    each = [spearman(x, y) for x, y in zip(a, b, strict=True)]
    assert found.per_person.value == pytest.approx(np.mean(each), abs=1e-12)
    for interval in (found.between_methods, found.per_person):
        assert interval.n == 20
        assert interval.low is not None
        assert interval.high is not None
        assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert agreements(tables(a, b)) == [found]  # the same seed


def test_the_same_order_is_1_and_the_other_way_round_minus_1() -> None:
    a, _ = people(np.random.default_rng(2), 9, spread=0.01)
    same, turned = agreements(tables(a, 3 * a + 1, -a))[:2]
    for found, value in ((same, 1), (turned, -1)):
        assert found.per_person.value == found.between_methods.value == pytest.approx(value)
        assert found.between_methods.low == found.between_methods.high == pytest.approx(value)
    assert [(found.recognizer[-1], found.other[-1]) for found in agreements(tables(a, a, a))] == [
        ("0", "1"),
        ("0", "2"),
        ("1", "2"),
    ]


def test_only_what_both_have_counts_and_little_says_nothing() -> None:
    a, b = people(np.random.default_rng(3), 12)
    values = tables(a, b)
    del values["recognizer-1"]["two"]
    del values["recognizer-0"]["one"]["003"]
    [found] = agreements(values)
    kept = [person for person in range(12) if person != 3]
    columns = [0, 2, 3, 4]
    expected = spearman(a[kept][:, columns].mean(0), b[kept][:, columns].mean(0))
    assert (found.num_methods, found.per_person.n) == (4, 11)
    assert found.between_methods.value == pytest.approx(expected, abs=1e-12)
    assert agreements(tables(a[:, :2], b[:, :2])) == []  # two methods
    assert agreements({"one": tables(a)["recognizer-0"], "other": {}}) == []
    [alone] = agreements(tables(a[:1], b[:1]))
    assert alone.between_methods.low is alone.per_person.high is None


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    a, b = people(rng, 200_000)
    truth = rank_correlation(a.mean(0), b.mean(0)), rank_correlation(a, b).mean()
    held = np.zeros(2)
    trials = 150
    for trial in range(trials):
        [found] = agreements(tables(*people(rng, 25)), seed=trial, resamples=400)
        for index, interval in enumerate((found.between_methods, found.per_person)):
            assert interval.low is not None
            assert interval.high is not None
            held[index] += interval.low - 1e-9 <= truth[index] <= interval.high + 1e-9
    assert held[0] / trials >= 0.93  # of an order, which has few values: rather too wide
    assert 0.9 <= held[1] / trials <= 0.99
