"""Monge Inception Distance: a sliced Wasserstein distance of Inception features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.inputs import validated_pair

NUM_DIRECTIONS, SEED = 1_000, 0  # M of the paper, and what they are drawn with
SCALE = 3  # of the mean over directions, times D
DIRECTIONS_AT_ONCE = 50  # 400 bytes an image


def mind(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """3 D times the mean squared Wasserstein-2 distance of Inception features projected on 1,000 directions. Lower is better.

    generated, held_out: (N, 2048) and (M, 2048), N, M >= 2. The directions are the same in every comparison. Falls as N grows:
    compare only at equal counts. No interval. Source: Berthet et al. 2026, arXiv:2605.06797, where N = M; for other counts the
    distance is that of the two empirical distributions, and no image is left out. Raises DataError for fewer images, a row
    that is not finite or another width.
    """
    del references
    a, b = validated_pair(generated, held_out)
    total = sum(wasserstein_sum(a @ directions.T, b @ directions.T) for directions in direction_groups(a.shape[1]))
    return Score(scaled_mean(total, a.shape[1]), n=len(a))


def direction_groups(dim: int) -> Iterator[FeatureArray]:
    """The directions, unit vectors (DIRECTIONS_AT_ONCE, D), evenly spread over the sphere, in groups."""
    rng = np.random.default_rng(SEED)
    for _ in range(NUM_DIRECTIONS // DIRECTIONS_AT_ONCE):
        directions = rng.normal(size=(DIRECTIONS_AT_ONCE, dim))
        yield directions / np.linalg.norm(directions, axis=1, keepdims=True)


def wasserstein_sum(a: FeatureArray, b: FeatureArray) -> float:
    """The squared Wasserstein-2 distance of each column of a (N, L) and b (M, L), summed up over the columns.

    The integral of the squared difference of the quantile functions, which are constant between multiples of 1/N and of 1/M.
    """
    n, m = len(a), len(b)
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)  # (K,), of the pieces, times N M: exact
    rows, columns = _piece_indices(ends, m), _piece_indices(ends, n)
    weights = np.diff(ends, prepend=0) / (n * m)  # (K,)
    differences = np.sort(a, axis=0)[rows] - np.sort(b, axis=0)[columns]  # (K, L)
    return float((weights @ np.square(differences)).sum())


def scaled_mean(total: float, dim: int) -> float:
    """The distance, of the sum over all directions."""
    return SCALE * dim * total / NUM_DIRECTIONS


def _piece_indices(ends: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Which of the sorted values each piece belongs to, where a value has this length."""
    return (ends - 1) // length
