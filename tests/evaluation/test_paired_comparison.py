"""Pairs of methods: known differences, Holm by hand, ties, and how often chance is called a finding."""

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.evaluation.metrics.bootstrap import paired_difference
from tenth.evaluation.paired_comparison import compare, holm, win_rate


def people(values):
    return {f"person {index:02}": float(value) for index, value in enumerate(values)}


def test_every_pair_is_there_once_in_the_order_given():
    draw = np.random.default_rng(0)
    rows = {name: draw.normal(size=12) for name in ("c", "a", "b")}
    found = compare({name: people(values) for name, values in rows.items()})
    assert [(each.method, each.baseline) for each in found] == [("c", "a"), ("c", "b"), ("a", "b")]
    for each in found:
        alone = paired_difference(rows[each.method], rows[each.baseline])
        assert (each.value, each.low, each.high, each.n, each.p_value) == (
            alone.value,
            alone.low,
            alone.high,
            alone.n,
            alone.p_value,
        )
    assert [each.p_holm for each in found] == holm([each.p_value for each in found])


def test_the_order_of_people_does_not_matter():
    a, b = people([1, 2, 4]), people([3, 1, 2])
    assert compare({"a": a, "b": dict(reversed(b.items()))}) == compare({"a": a, "b": b})


def test_each_pair_is_compared_on_the_people_of_both_where_that_is_asked_for():
    a, b, c = people([1, 2, 4, 8]), people([3, 1, 2]), {"somebody else": 1.0}
    found = compare({"a": a, "b": b, "c": c}, common_people=True)
    first_three = compare({"a": {who: a[who] for who in b}, "b": b})
    assert found == first_three  # c has nobody in common with them
    assert found[0].n == 3
    with pytest.raises(DataError, match="b and a have values of different people"):
        compare({"a": a, "b": b})


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 x .01; 2 x .03; 1 x .04 is raised to .06
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def test_holm_never_helps_and_keeps_the_order():
    p_values = np.random.default_rng(1).uniform(size=20)
    corrected = np.array(holm(p_values.tolist()))
    assert (corrected >= p_values).all()
    assert (np.diff(corrected[np.argsort(p_values)]) >= 0).all()


def test_a_tie_counts_half():
    assert win_rate([1, 2, 3, 4], [0, 2, 4, 3]) == (1 + 0.5 + 0 + 1) / 4
    assert win_rate([0, 2, 4, 3], [1, 2, 3, 4]) == (0 + 0.5 + 1 + 0) / 4
    assert win_rate([5, 5], [5, 5]) == 0.5


def test_equal_methods_are_seldom_distinguished_whatever_their_number():
    """Five methods, ten pairs, all from one distribution: a finding in any of them, 150 times."""
    draw, false = np.random.default_rng(2), {"alone": 0, "holm": 0}
    for _ in range(150):
        rows = compare({name: people(draw.normal(size=12)) for name in "abcde"}, resamples=1_000)
        false["alone"] += min(row.p_value for row in rows) <= 0.05
        false["holm"] += min(row.p_holm for row in rows) <= 0.05
    assert false["alone"] > 25  # without the correction one table in six or more has a finding
    assert false["holm"] <= 15  # 5 % of 150 is 7.5, a standard error of 2.7


def test_one_method_has_no_pair_and_one_person_no_interval():
    assert compare({}) == compare({"a": people([1, 2])}) == []
    (only,) = compare({"a": {"anna": 1.0}, "b": {"anna": 0.0}})
    assert (only.value, only.low, only.n, only.win_rate) == (1, None, 1, 1)


def test_other_people_and_missing_values_are_refused():
    with pytest.raises(DataError, match=r"b and a have values of different people \(bert\); .*same people\. Compare"):
        compare({"a": {"anna": 1.0}, "b": {"anna": 1.0, "bert": 2.0}})
    with pytest.raises(DataError, match="finite number per person"):
        compare({"a": {"anna": 1.0}, "b": {"anna": float("nan")}})
