"""Whether face recognizers agree about methods: rank correlations, with intervals over people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tenth.evaluation.metrics.bootstrap import Interval, bootstrap_interval, expanded_tail
from tenth.evaluation.metrics.identity import PersonScores

Array = npt.NDArray[np.float64]
MIN_METHODS = 3  # two have the same order or the other: their correlation is 1 or -1 by chance
RESAMPLE_CHUNK = 1_000_000  # comparisons of a chunk of resamples


@dataclass(frozen=True)
class Agreement:
    """Two recognizers on the same images: Spearman's rank correlation of the methods' similarities, 1 for the same order.

    between_methods: of the methods' means over people. per_person: of the methods on one person's images, averaged over people.
    """

    recognizer: str
    other: str
    num_methods: int
    between_methods: Interval
    per_person: Interval


def agreements(values: Mapping[str, Mapping[str, PersonScores]], *, seed: int = 0, resamples: int = 10_000) -> list[Agreement]:
    """All pairs of recognizers, in the order given, on the methods and people for which both have values.

    values: recognizer -> method -> person -> the mean over that person's images. Pairs with fewer than MIN_METHODS methods, or
    without people, are left out. Intervals resample people, as `bootstrap_interval` does. Source of the correlation: Spearman
    1904, doi:10.2307/1412159; equal values share the mean of their ranks, and an order of equals alone has a correlation of 0.
    """
    found = []
    for (name, first), (other, second) in combinations(values.items(), 2):
        methods = [method for method in first if method in second]
        people = (
            sorted(set.intersection(*({*side[method]} for side in (first, second) for method in methods))) if methods else []
        )
        if len(methods) < MIN_METHODS or not people:
            continue
        a, b = (np.array([[side[method][person] for method in methods] for person in people]) for side in (first, second))
        between = _between_methods(a, b, seed, resamples)
        per_person = bootstrap_interval(rank_correlation(a, b), seed=seed, resamples=resamples)
        found.append(Agreement(name, other, len(methods), between, per_person))
    return found


def rank_correlation(a: Array, b: Array) -> Array:
    """Spearman's rho of the rows of two arrays: (..., M), (..., M) -> (...)."""
    ranks_a, ranks_b = (rows - rows.mean(-1, keepdims=True) for rows in (_ranks(a), _ranks(b)))
    norms = np.sqrt((ranks_a**2).sum(-1) * (ranks_b**2).sum(-1))
    products: Array = (ranks_a * ranks_b).sum(-1)
    found: Array = np.divide(products, norms, out=np.zeros_like(products), where=norms > 0)
    return found


def _ranks(rows: Array) -> Array:
    """Ranks within each row (..., M), the lowest 1; equal values have the mean of their ranks."""
    this, other = rows[..., :, None], rows[..., None, :]
    ranks: Array = ((this > other).sum(-1) + (this >= other).sum(-1) + 1) / 2
    return ranks


def _between_methods(a: Array, b: Array, seed: int, resamples: int) -> Interval:
    """Of means over people. a, b: (P, M). The interval has the value in it: resampled orders agree a little less."""
    people, methods = a.shape
    value = float(rank_correlation(a.mean(0), b.mean(0)))
    if people == 1:
        return Interval(value, None, None, 1)
    rng, chunk = np.random.default_rng(seed), max(1, RESAMPLE_CHUNK // (methods * max(people, methods)))
    found = []
    for start in range(0, resamples, chunk):
        rows = rng.integers(people, size=(min(chunk, resamples - start), people))  # (R, P)
        found.append(rank_correlation(a[rows].mean(1), b[rows].mean(1)))  # of (R, M)
    tail = expanded_tail(0.95, people)
    low, high = np.quantile(np.concatenate(found), [tail, 1 - tail])
    return Interval(value, min(float(low), value), max(float(high), value), people)
