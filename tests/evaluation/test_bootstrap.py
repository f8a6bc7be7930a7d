from statistics import NormalDist

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.evaluation.metrics import bootstrap
from tenth.evaluation.metrics.bootstrap import bootstrap_interval, expanded_tail, paired_difference


def test_the_value_is_the_mean_over_people_and_lies_inside():
    found = bootstrap_interval([0.1, 0.2, 0.6])
    assert found.value == pytest.approx(0.3)
    assert found.n == 3
    assert 0.1 <= found.low < found.value < found.high <= 0.6


def test_two_people_have_the_three_means_they_can_have():
    found = bootstrap_interval([0.0, 1.0])  # means 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    assert (found.low, found.high) == (0, 1)
    assert (
        bootstrap_interval([0.0, 1.0], level=0.2).low == bootstrap_interval([0.0, 1.0], level=0.2).high == 0.5
    )  # a tail of 0.32: above 1/4


def test_one_person_has_no_interval_and_equal_people_a_point():
    assert (bootstrap_interval([0.4]).low, bootstrap_interval([0.4]).high) == (None, None)
    same = bootstrap_interval([0.5] * 7)
    assert (same.low, same.high) == (0.5, 0.5)


@pytest.mark.parametrize("bad", [[], [0.1, np.nan], [np.inf], [[0.1, 0.2]]])
def test_no_people_nan_and_images_are_refused(bad):
    with pytest.raises(DataError, match="one finite number per person"):
        bootstrap_interval(bad)


def test_the_same_seed_gives_the_same_interval_whatever_fits_in_memory(monkeypatch):
    values = np.random.default_rng(1).normal(size=50)
    first = bootstrap_interval(values)
    assert bootstrap_interval(values) == first
    assert bootstrap_interval(values, seed=1) != first
    assert paired_difference(values, values**2) == paired_difference(values, values**2)
    monkeypatch.setattr(bootstrap, "RESAMPLE_CHUNK", 999)
    assert bootstrap_interval(values).low == pytest.approx(first.low, abs=0.02)  # other draws, the same interval
    assert bootstrap_interval(values, resamples=100).n == 50


# Student's t by tables: 97.5 % and 99.5 % points for 1, 4, 9, 52 degrees of freedom, to the digits given.
TABLE = [(0.95, 1, 12.7062), (0.95, 4, 2.7764), (0.95, 9, 2.2622), (0.95, 52, 2.0066), (0.99, 4, 4.6041), (0.99, 9, 3.2498)]


@pytest.mark.parametrize(("level", "freedom", "t"), TABLE)
def test_the_tail_has_the_reach_of_students_t(level, freedom, t):
    reach = t * np.sqrt((freedom + 1) / freedom)
    assert expanded_tail(level, freedom + 1) == pytest.approx(NormalDist().cdf(-reach), rel=2e-3, abs=1e-12)


def test_with_ever_more_people_it_is_the_percentile_interval():
    tails = [expanded_tail(0.95, people) for people in (2, 3, 5, 10, 53, 1_000, 10_000)]
    assert tails == sorted(tails)
    assert tails[-1] == pytest.approx(0.025, rel=1e-3)


@pytest.mark.parametrize(("people", "least", "most"), [(5, 0.89, 0.95), (10, 0.925, 0.965), (20, 0.93, 0.97), (53, 0.93, 0.97)])
def test_the_interval_covers_the_truth_as_often_as_stated(people, least, most):
    draw = np.random.default_rng(people)
    images = (draw.normal(0.4, 0.1, (people, 1)) + draw.normal(0, 0.15, (people, 4)) for _ in range(1_500))
    found = [bootstrap_interval(each.mean(1), seed=trial, resamples=1_000) for trial, each in enumerate(images)]
    covered = np.mean([each.low <= 0.4 <= each.high for each in found])
    assert least <= covered <= most  # 1,500 trials: a standard error of 0.006


def test_images_of_one_person_are_one_value():
    draw = np.random.default_rng(0)
    people = draw.normal(0.4, 0.1, 20)
    images = people[:, None] + draw.normal(0, 0.02, (20, 10))
    honest, narrow = bootstrap_interval(images.mean(1)), bootstrap_interval(images.ravel())
    assert honest.high - honest.low > 2 * (narrow.high - narrow.low)


def test_paired_sees_a_difference_that_is_small_against_people():
    draw = np.random.default_rng(2)
    a = draw.normal(0.4, 0.2, 30)
    found = paired_difference(a + 0.05 + draw.normal(0, 0.02, 30), a)
    assert found.value == pytest.approx(0.05, abs=0.01)
    assert found.low > 0
    assert found.p_value == 1 / 10_001  # no random signs reach it; the observed ones count


def test_few_people_have_the_exact_p_value():
    assert paired_difference([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]).p_value == 2 / 32  # only all plus and all minus reach the mean
    assert paired_difference([1, 1], [0, 2]).p_value == 1  # differences 1 and -1: every choice of signs reaches a mean of 0
    assert paired_difference([1.0], [0.5]).p_value == 1


def test_exact_and_random_signs_agree():
    differences = np.random.default_rng(3).normal(0.1, 0.2, 12)
    exact, drawn = paired_difference(differences, np.zeros(12)), paired_difference(differences, np.zeros(12), resamples=4_000)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.03)  # 4,000 draws: a standard error below 0.008


def test_no_difference_is_seldom_significant():
    draw = np.random.default_rng(4)
    p_values = [paired_difference(draw.normal(size=20), draw.normal(size=20), resamples=400).p_value for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08  # 5 % of 400: a standard error of 0.011


def test_swapping_the_sides_changes_the_sign_alone():
    a, b = np.random.default_rng(5).normal(size=(2, 25))
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.value == -back.value
    assert there.p_value == back.p_value


def test_other_people_are_no_pair():
    with pytest.raises(DataError, match="the same people"):
        paired_difference([1, 2, 3], [1, 2])
