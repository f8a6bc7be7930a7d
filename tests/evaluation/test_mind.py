"""MIND against optimal transport by trying every assignment, and against known distances."""

from itertools import permutations

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics.mind import NUM_DIRECTIONS, direction_groups, mind, wasserstein_sum


def images(rows):
    return Features(np.asarray(rows, np.float64), tuple(map(str, range(len(rows)))))


def cloud(seed, n, width, *, shift=0.0):
    return np.abs(shift + np.random.default_rng(seed).normal(size=(n, width)))


def value(a, b):
    return mind(generated=images(a), held_out=images(b)).value


def all_directions(width):
    return np.concatenate(list(direction_groups(width)))


def by_assignment(a, b):
    """The cheapest of all ways to send the values of one side to those of the other, each repeated to an equal number."""
    count = np.lcm(len(a), len(b))
    a, b = np.repeat(a, count // len(a)), np.repeat(b, count // len(b))
    return min(np.square(a - b[list(order)]).mean() for order in permutations(range(count)))


@pytest.mark.parametrize(("n", "m"), [(5, 5), (2, 6), (6, 3), (2, 3), (4, 4)])
def test_a_projected_distance_is_the_cheapest_transport(n, m):
    a, b = cloud(1, n, 3), cloud(2, m, 3, shift=0.4)
    expected = sum(by_assignment(a[:, column], b[:, column]) for column in range(3))
    assert wasserstein_sum(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 45), (45, 30), (7, 50)])
def test_it_is_the_formula_of_the_paper_on_each_side_repeated_to_equal_numbers(n, m):
    a, b = cloud(1, n, 6), cloud(2, m, 6, shift=0.3)
    count, total = np.lcm(n, m), 0.0
    for direction in all_directions(6):
        left = np.sort(np.repeat([float(row @ direction) for row in a], count // n))
        right = np.sort(np.repeat([float(row @ direction) for row in b], count // m))
        total += np.square(left - right).mean()
    assert value(a, b) == pytest.approx(3 * 6 * total / NUM_DIRECTIONS, rel=1e-9)


def test_directions_are_units_spread_evenly_and_always_the_same():
    directions = all_directions(8)
    assert directions.shape == (NUM_DIRECTIONS, 8)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    np.testing.assert_allclose(directions.T @ directions / NUM_DIRECTIONS, np.eye(8) / 8, atol=0.03)
    np.testing.assert_array_equal(directions, all_directions(8))


def test_anchor_a_shift_costs_three_times_its_squared_length():
    rows, shift = cloud(1, 60, 16), np.linspace(-1, 1, 16)
    exact = 3 * 16 * np.square(all_directions(16) @ shift).mean()
    assert value(rows + shift, rows) == pytest.approx(exact, rel=1e-9)
    assert exact == pytest.approx(3 * shift @ shift, rel=0.1)  # over 1,000 directions


def test_anchor_held_out_itself_is_at_zero_and_nothing_is_nearer():
    rows = cloud(1, 80, 32)
    score = mind(generated=images(rows), held_out=images(rows[::-1]))
    assert score.value == pytest.approx(0, abs=1e-12)
    assert (score.n, score.low) == (80, None)
    assert value(np.repeat(rows, 3, axis=0), rows) == pytest.approx(0, abs=1e-12)  # the same distribution
    assert 0 < value(rows + 0.1, rows) < value(rows + 0.2, rows)


def test_equal_means_and_covariances_do_not_hide_another_shape():
    """What a Fréchet distance cannot see."""
    signs = np.random.default_rng(0).permutation(np.repeat([-1.0, 1.0], 500))[:, None]
    normal = np.random.default_rng(1).normal(size=(1000, 1))
    normal = (normal - normal.mean()) / normal.std()
    assert value(np.hstack([signs, signs]), np.hstack([normal, normal])) > 0.5


def test_it_is_the_same_from_both_sides_and_in_any_order():
    a, b = cloud(1, 30, 5), cloud(2, 20, 5)
    assert value(a, b) == pytest.approx(value(b[::-1], a[::-1]), rel=1e-12)


def test_one_image_and_broken_rows_are_refused():
    with pytest.raises(DataError, match="1 generated image; at least 2 are needed"):
        value(cloud(1, 1, 4), cloud(2, 5, 4))
    with pytest.raises(DataError, match="not finite"):
        value(cloud(1, 5, 4) * np.nan, cloud(2, 5, 4))
