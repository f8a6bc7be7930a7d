import numpy as np
import pytest

from tenth.errors import DataError
from tenth.evaluate import bootstrap
from tenth.evaluate.bootstrap import interval, paired


def test_the_value_is_the_mean_over_people_and_lies_inside():
    found = interval([0.1, 0.2, 0.6])
    assert found.value == pytest.approx(0.3)
    assert found.n == 3
    assert 0.1 <= found.low < found.value < found.high <= 0.6


def test_two_people_have_the_three_means_they_can_have():
    found = interval([0.0, 1.0])  # means 0, 1/2, 1 with chances 1/4, 1/2, 1/4
    assert (found.low, found.high) == (0, 1)
    assert interval([0.0, 1.0], level=0.4).low == interval([0.0, 1.0], level=0.4).high == 0.5


def test_one_person_has_no_interval_and_equal_people_a_point():
    assert (interval([0.4]).low, interval([0.4]).high) == (None, None)
    same = interval([0.5] * 7)
    assert (same.low, same.high) == (0.5, 0.5)


@pytest.mark.parametrize("bad", [[], [0.1, np.nan], [np.inf], [[0.1, 0.2]]])
def test_no_people_nan_and_images_are_refused(bad):
    with pytest.raises(DataError, match="one finite number per person"):
        interval(bad)


def test_the_same_seed_gives_the_same_interval_whatever_fits_in_memory(monkeypatch):
    values = np.random.default_rng(1).normal(size=50)
    first = interval(values)
    assert interval(values) == first
    assert interval(values, seed=1) != first
    assert paired(values, values**2) == paired(values, values**2)
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", 999)
    assert interval(values).low == pytest.approx(first.low, abs=0.02)  # other draws, the same interval
    assert interval(values, resamples=100).n == 50


@pytest.mark.parametrize(("people", "least", "most"), [(10, 0.86, 0.94), (40, 0.91, 0.97)])
def test_the_interval_covers_the_truth_as_often_as_stated(people, least, most):
    draw = np.random.default_rng(people)
    found = [interval(draw.normal(0.4, 0.1, people), seed=trial, resamples=500) for trial in range(600)]
    covered = np.mean([each.low <= 0.4 <= each.high for each in found])
    assert least <= covered <= most  # 600 trials: a standard error of 0.01


def test_images_of_one_person_are_one_value():
    draw = np.random.default_rng(0)
    people = draw.normal(0.4, 0.1, 20)
    images = people[:, None] + draw.normal(0, 0.02, (20, 10))
    honest, narrow = interval(images.mean(1)), interval(images.ravel())
    assert honest.high - honest.low > 2 * (narrow.high - narrow.low)


def test_paired_sees_a_difference_that_is_small_against_people():
    draw = np.random.default_rng(2)
    a = draw.normal(0.4, 0.2, 30)
    found = paired(a + 0.05 + draw.normal(0, 0.02, 30), a)
    assert found.value == pytest.approx(0.05, abs=0.01)
    assert found.low > 0
    assert found.p_value == 1 / 10_001  # no random signs reach it; the observed ones count


def test_few_people_have_the_exact_p_value():
    assert paired([1, 2, 3, 4, 5], [0, 0, 0, 0, 0]).p_value == 2 / 32  # only all plus and all minus reach the mean
    assert paired([1, 1], [0, 2]).p_value == 1  # differences 1 and -1: every choice of signs reaches a mean of 0
    assert paired([1.0], [0.5]).p_value == 1


def test_exact_and_random_signs_agree():
    differences = np.random.default_rng(3).normal(0.1, 0.2, 12)
    exact, drawn = paired(differences, np.zeros(12)), paired(differences, np.zeros(12), resamples=4_000)
    assert drawn.p_value == pytest.approx(exact.p_value, abs=0.03)  # 4,000 draws: a standard error below 0.008


def test_no_difference_is_seldom_significant():
    draw = np.random.default_rng(4)
    p_values = [paired(draw.normal(size=20), draw.normal(size=20), resamples=400).p_value for _ in range(400)]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.08  # 5 % of 400: a standard error of 0.011


def test_swapping_the_sides_changes_the_sign_alone():
    a, b = np.random.default_rng(5).normal(size=(2, 25))
    there, back = paired(a, b), paired(b, a)
    assert there.value == -back.value
    assert there.p_value == back.p_value


def test_other_people_are_no_pair():
    with pytest.raises(DataError, match="the same people"):
        paired([1, 2, 3], [1, 2])
