"""KID against every pair by hand, and against torch-fidelity where both are the same estimator."""

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from tenth.core.types import Features
from tenth.evaluation.metrics import kid as module
from tenth.evaluation.metrics.kid import kid


def images(rows):
    """Each image of a person of its own."""
    return Features(np.asarray(rows, np.float64), tuple(map(str, range(len(rows)))))


def cloud(seed, n, width, *, shift=0.0):
    return np.abs(shift + np.random.default_rng(seed).normal(size=(n, width)))  # Inception's features are never below 0


def value(a, b):
    return kid(generated=images(a), held_out=images(b)).value


def pair_by_pair(a, b):
    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3

    own = [[kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j] for rows in (a, b)]
    return np.mean(own[0]) + np.mean(own[1]) - 2 * np.mean([kernel(x, y) for x in a for y in b])


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 9), (12, 7)])
def test_it_is_the_mean_over_all_pairs(n, m):
    a, b = cloud(1, n, 6), cloud(2, m, 6, shift=0.3)
    assert value(a, b) == pytest.approx(pair_by_pair(a, b), rel=1e-11)


def test_it_is_torch_fidelitys_with_one_subset_of_all_images():
    """Its subsets are drawn without replacement: one as large as both sides is every image once, in another order."""
    a, b = cloud(1, 150, 64), cloud(2, 150, 64, shift=0.2)
    sides = (torch.from_numpy(a), torch.from_numpy(b))
    theirs = kid_features_to_metric(*sides, kid_subsets=1, kid_subset_size=150, verbose=False)
    assert value(a, b) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)


def test_many_subsets_of_torch_fidelity_scatter_around_it():
    a, b = cloud(1, 150, 16), cloud(2, 200, 16, shift=0.2)
    sides = (torch.from_numpy(a), torch.from_numpy(b))
    theirs = kid_features_to_metric(*sides, kid_subsets=400, kid_subset_size=50, verbose=False)
    error = theirs["kernel_inception_distance_std"] / np.sqrt(400)
    assert abs(value(a, b) - theirs["kernel_inception_distance_mean"]) < 4 * error


def test_blocks_do_not_change_it(monkeypatch):
    a, b = cloud(1, 50, 8), cloud(2, 33, 8, shift=0.2)
    whole = value(a, b)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert value(a, b) == pytest.approx(whole, rel=1e-11)


def test_on_average_it_is_zero_for_one_distribution_at_any_count():
    for n, m in ((10, 10), (10, 80)):
        found = [value(cloud(seed, n, 4), cloud(seed + 5_000, m, 4)) for seed in range(600)]
        assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(600)
        assert 0.3 < np.mean(np.array(found) < 0) < 0.8


def test_anchor_held_out_itself_is_nearest():
    rows = cloud(1, 80, 32)
    score = kid(generated=images(rows), held_out=images(rows))
    assert score.value < 0  # an image and itself is a pair across the sides, none within
    assert (score.n, score.low) == (80, None)
    for other in (cloud(2, 80, 32), rows + 0.1, 1.1 * rows):
        assert value(other, rows) > score.value
    assert value(rows + 0.5, rows) > value(rows + 0.1, rows) > 0
