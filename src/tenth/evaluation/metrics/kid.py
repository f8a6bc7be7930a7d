"""Kernel Inception Distance: a comparison of two sets of images whose expectation does not depend on their number."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.inputs import validated_pair

BLOCK = 1024  # rows of each side at a time: 8 MB of kernel values, whatever N is


def kid(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Squared maximum mean discrepancy of Inception features under the kernel (x . y / D + 1)^3, unbiased. Lower is better.

    generated, held_out: (N, 2048) and (M, 2048), N, M >= 2. All pairs of images count once, so nothing is drawn at random. No
    interval. Source: Bińkowski et al. 2018, arXiv:1801.01401; Gretton et al. 2012, JMLR 13, eq. 3; equals torch-fidelity 0.4 at
    one subset of all images, N = M. Raises DataError for fewer images, a row that is not finite or another width.
    """
    del references
    a, b = validated_pair(generated, held_out)
    within = [(kernel_sum(side, side) - self_kernel_sum(side)) / (len(side) * (len(side) - 1)) for side in (a, b)]
    return Score(within[0] + within[1] - 2 * kernel_sum(a, b) / (len(a) * len(b)), n=len(a))


def kernel_sum(a: FeatureArray, b: FeatureArray) -> float:
    """The kernel of all pairs of a row of a (N, D) and one of b (M, D), summed up."""
    return sum(float(_kernel(rows, columns).sum()) for rows in _blocks(a) for columns in _blocks(b))


def self_kernel_sum(rows: FeatureArray) -> float:
    """The kernel of each row (N, D) and itself, which is no pair, summed up."""
    return float(((np.square(rows).mean(1) + 1) ** 3).sum())


def _kernel(a: FeatureArray, b: FeatureArray) -> FeatureArray:
    values = a @ b.T  # (N, M)
    values /= a.shape[1]
    values += 1
    return values * values * values  # a third of the time of a power


def _blocks(rows: FeatureArray) -> Iterator[FeatureArray]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))
