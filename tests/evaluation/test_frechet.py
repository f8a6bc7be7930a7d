"""Fréchet distances against torch-fidelity, against 60 digits where it is at a loss, and against cases known by hand."""

import mpmath
import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from tenth.core.errors import DataError
from tenth.core.types import Features
from tenth.evaluation.metrics.frechet import fid, fid_infinity, frechet_distance


def images(rows):
    """Each image of a person of its own."""
    return Features(np.asarray(rows, np.float64), tuple(map(str, range(len(rows)))))


def cloud(seed, n, width, *, shift=0.0):
    """Rows with correlated columns whose scales fall, as those of image features do."""
    mixing = np.random.default_rng(99).normal(size=(width, width)) / np.sqrt(width) + np.eye(width)
    return shift + np.random.default_rng(seed).normal(size=(n, width)) * np.arange(1, width + 1) ** -0.5 @ mixing


def on_axes(*deviations):
    """Two rows for each axis around 0, whose covariance is exactly diagonal with these standard deviations."""
    return np.concatenate([np.diag(deviations), -np.diag(deviations)]) * np.sqrt(len(deviations) - 0.5)


def by_torch_fidelity(a, b):
    first, second = (fid_features_to_statistics(torch.from_numpy(rows)) for rows in (a, b))
    return fid_statistics_to_metric(first, second, verbose=False)["frechet_inception_distance"]


def by_sixty_digits(a, b):
    """The formula as it stands in the paper: the trace of the root of a product, from its eigenvalues."""
    with mpmath.workdps(60):
        means, covariances = [], []
        for rows in (a, b):
            x = mpmath.matrix(rows.tolist())
            mean = [mpmath.fsum(x[:, column]) / x.rows for column in range(x.cols)]
            centred = mpmath.matrix(x.rows, x.cols)
            for row in range(x.rows):
                for column in range(x.cols):
                    centred[row, column] = x[row, column] - mean[column]
            means.append(mean)
            covariances.append(centred.T * centred / (x.rows - 1))
        eigenvalues = mpmath.eig(covariances[0] * covariances[1], left=False, right=False)
        overlap = mpmath.fsum(mpmath.sqrt(mpmath.re(value)) if mpmath.re(value) > 1e-40 else 0 for value in eigenvalues)
        apart = mpmath.fsum((p - q) ** 2 for p, q in zip(*means, strict=True))
        traces = mpmath.fsum(covariance[i, i] for covariance in covariances for i in range(covariance.rows))
        return float(apart + traces - 2 * overlap)


@pytest.mark.parametrize(("n", "m"), [(300, 500), (500, 65), (65, 65)])
def test_it_is_torch_fidelitys(n, m):
    a, b = cloud(1, n, 64), cloud(2, m, 64, shift=0.1)
    assert frechet_distance(a, b) == pytest.approx(by_torch_fidelity(a, b), rel=1e-6)  # found: below 1e-11


@pytest.mark.parametrize(("n", "m"), [(20, 30), (20, 200), (200, 20), (2, 2)])
def test_it_is_torch_fidelitys_with_fewer_images_than_features(n, m):
    a, b = cloud(1, n, 64), cloud(2, m, 64, shift=0.1)
    assert frechet_distance(a, b) == pytest.approx(by_torch_fidelity(a, b), rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(4, 5), (4, 30), (30, 4), (20, 30), (2, 2)])
def test_it_is_exact_with_fewer_images_than_features(n, m):
    a, b = cloud(1, n, 8), cloud(2, m, 8, shift=0.1)
    assert frechet_distance(a, b) == pytest.approx(by_sixty_digits(a, b), rel=1e-12)


def test_by_hand_it_is_the_shift_and_the_differences_of_deviations():
    a, b = on_axes(1, 2, 3, 0), on_axes(3, 2, 1, 1)
    assert frechet_distance(a, b) == pytest.approx(4 + 0 + 4 + 1, rel=1e-12)
    assert frechet_distance(a, b + np.array([0, 5, 0, 0])) == pytest.approx(25 + 9, rel=1e-12)
    assert frechet_distance(a[[0, 4]], b[[1, 5]]) > 0  # two images a side


def test_anchor_held_out_itself_is_nearest():
    rows = cloud(1, 80, 32)
    held_out = images(rows)
    score = fid(generated=held_out, held_out=held_out)
    assert score.value == pytest.approx(0, abs=1e-12)
    assert (score.n, score.low) == (80, None)
    assert fid(generated=images(rows + 0.5), held_out=held_out).value == pytest.approx(32 * 0.25, rel=1e-9)
    for other in (cloud(2, 80, 32), rows[:40], 1.1 * rows):
        assert fid(generated=images(other), held_out=held_out).value > 1e-3


def test_the_sides_and_the_order_of_images_do_not_matter():
    a, b = cloud(1, 40, 32), cloud(2, 90, 32)
    assert frechet_distance(b, a[::-1]) == pytest.approx(frechet_distance(a, b), rel=1e-12)


def test_it_falls_with_the_number_of_images_and_its_extrapolation_does_not():
    held_out = images(1.2 * cloud(6, 4_000, 32))
    truth = frechet_distance(cloud(5, 100_000, 32), held_out.vectors)
    plain = {n: [fid(generated=images(cloud(s, n, 32)), held_out=held_out).value for s in range(6)] for n in (200, 800)}
    endless = {
        n: [fid_infinity(generated=images(cloud(s, n, 32)), held_out=held_out).value for s in range(6)] for n in (200, 800)
    }
    assert np.mean(plain[200]) > np.mean(plain[800]) > truth
    for n in (200, 800):
        assert abs(np.mean(endless[n]) - truth) < 0.4 * (np.mean(plain[n]) - truth)


def test_extrapolation_repeats_and_states_its_side():
    a, b = images(cloud(1, 60, 16)), images(cloud(2, 90, 16))
    score = fid_infinity(generated=a, held_out=b)
    assert score == fid_infinity(generated=a, held_out=b)
    assert score != fid_infinity(generated=a, held_out=b, seed=1)
    assert score.value < fid(generated=a, held_out=b).value
    assert (score.n, score.low) == (60, None)
    assert fid_infinity(generated=b, held_out=b).value <= fid(generated=b, held_out=b).value + 1e-12


@pytest.mark.parametrize("least", [1, 60, 61])
def test_extrapolation_needs_two_sizes(least):
    sides = {"generated": images(cloud(1, 60, 16)), "held_out": images(cloud(2, 90, 16))}
    with pytest.raises(DataError, match=f"60 generated images and subsets from {least}; two sizes.*needed"):
        fid_infinity(**sides, min_subset=least)


def test_three_images_are_too_few_to_extrapolate():
    with pytest.raises(DataError, match="3 generated images"):
        fid_infinity(generated=images(cloud(1, 3, 16)), held_out=images(cloud(2, 9, 16)))
