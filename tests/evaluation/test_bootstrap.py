from statistics import NormalDist

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.evaluation.metrics import bootstrap
from tenth.evaluation.metrics.bootstrap import (
    bootstrap_interval,
    expanded_tail,
    independent_difference,
    paired_difference,
    share_interval,
)


def test_the_value_is_the_mean_over_people_and_lies_inside():
    found = bootstrap_interval([0.1, 0.2, 0.3, 0.6] * 6)
    assert found.value == pytest.approx(0.3)
    assert found.n == 24
    assert 0.1 <= found.low < found.value < found.high <= 0.6


def test_of_few_people_it_is_no_narrower_than_students():
    found = bootstrap_interval([0.1, 0.2, 0.6])
    reach = 4.302653 * 0.2645751 / np.sqrt(3)  # t of two degrees of freedom, by tables, and the standard deviation
    assert (found.low, found.high) == (pytest.approx(0.3 - reach, abs=1e-6), pytest.approx(0.3 + reach, abs=1e-6))


def test_the_tails_are_those_of_the_bca_interval():
    """Acceleration by leaving one person out each time, bias by counting; with the tails' reach they are Efron's."""
    values = np.random.default_rng(7).gamma(1.0, size=24)
    means = bootstrap._resampled_means(values, 0, 5_000, 24)
    left = np.array([np.delete(values, index).mean() for index in range(24)])
    acceleration = ((left.mean() - left) ** 3).sum() / (6 * ((left.mean() - left) ** 2).sum() ** 1.5)
    bias = NormalDist().inv_cdf(sum(mean < values.mean() for mean in means) / 5_000)
    reach = 2.068658 * np.sqrt(24 / 23)  # t of 23 degrees of freedom, by tables
    tails = [NormalDist().cdf(bias + (bias + z) / (1 - acceleration * (bias + z))) for z in (-reach, reach)]
    ends = np.quantile(means, tails)
    found = bootstrap_interval(values, resamples=5_000)
    assert (found.low, found.high) == pytest.approx(ends, abs=1e-6)
    assert found.high - found.value > found.value - found.low  # a long tail upwards


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


@pytest.mark.parametrize("people", [5, 10, 20, 53])
def test_the_interval_covers_the_truth_as_often_as_stated(people):
    draw = np.random.default_rng(people)
    images = (draw.normal(0.4, 0.1, (people, 1)) + draw.normal(0, 0.15, (people, 4)) for _ in range(1_000))
    found = [bootstrap_interval(each.mean(1), seed=trial, resamples=500) for trial, each in enumerate(images)]
    assert 0.93 <= np.mean([each.low <= 0.4 <= each.high for each in found]) <= 0.97  # 1,000 trials: a standard error of 0.007


def test_shares_stay_shares_and_one_that_everybody_has_is_not_certain():
    few = share_interval([1.0, 1.0, 0.75, 1.0])
    assert 0 <= few.low < 0.9 < few.high == 1
    everybody, nobody = share_interval([1.0] * 53), share_interval([0.0] * 53)
    assert everybody.low**53 == pytest.approx(0.025, abs=1e-12)  # the chance that 53 people have it, at that share
    assert (everybody.value, everybody.high) == (1, 1)
    assert (nobody.low, nobody.high) == (0, pytest.approx(1 - everybody.low))
    assert share_interval([1.0]).low is None


@pytest.mark.parametrize("people", [2, 5, 21])
@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_equal_shares_are_not_certain(share, people):
    found = share_interval([share] * people)
    unseen = 1 - 0.025 ** (1 / people)  # of people who would be seen at least once, but for a chance of 0.025
    assert (found.value, found.n) == (share, people)
    assert (found.low, found.high) == pytest.approx((share - unseen * share, share + unseen * (1 - share)))
    most = share_interval([share] * people + [0.75]) if people > 2 else found
    assert most.low < most.value < most.high or share in (0, 1)  # one of another kind does not make the others certain


def test_the_interval_of_rare_other_shares_covers_the_truth():
    """A tenth of people choose otherwise, all one way or all the other: of ten people none does so in a third of the trials."""
    for other in (0.0, 1.0):
        draw, truth = np.random.default_rng(3), 0.9 * 0.5 + 0.1 * other
        found = [share_interval(np.where(draw.random(10) < 0.1, other, 0.5)) for _ in range(400)]
        assert np.mean([each.low <= truth <= each.high for each in found]) >= 0.95


def test_two_groups_differ_by_what_welch_says():
    draw = np.random.default_rng(8)
    few, many = draw.normal(0.5, 0.1, 9), draw.normal(0.4, 0.2, 40)
    found = independent_difference(few, many, resamples=40_000)
    assert found.value == pytest.approx(few.mean() - many.mean(), abs=1e-12)
    assert found.n == 49
    spread = np.sqrt(few.var(ddof=1) / 9 + many.var(ddof=1) / 40)
    assert (found.high - found.low) / 2 == pytest.approx(2.06 * spread, rel=0.05)  # t of some 26 degrees of freedom


def test_groups_that_do_not_vary_have_a_point_and_one_person_is_no_group():
    found = independent_difference([0.5, 0.5], [0.25, 0.25, 0.25])
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)
    with pytest.raises(DataError, match="groups of 1 and 2 people; two people of each"):
        independent_difference([0.5], [0.1, 0.2])


def test_the_interval_of_two_groups_covers_their_difference_as_often_as_stated():
    draw = np.random.default_rng(9)
    found = [
        independent_difference(draw.normal(0.5, 0.1, 8), draw.normal(0.4, 0.15, 30), seed=trial, resamples=500)
        for trial in range(1_000)
    ]
    assert 0.93 <= np.mean([each.low <= 0.1 <= each.high for each in found]) <= 0.97  # a standard error of 0.007


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
