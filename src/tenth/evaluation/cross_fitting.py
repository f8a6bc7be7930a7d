"""Two methods' frontiers compared by settings that are chosen on one half of the people and scored on the other.

The best of several noisy settings flatters, and flatters a method whose settings are about equally good more than one that has
a single good one: their areas may be equal where their estimates are not. What is chosen on other people does not flatter.
Sources: Stone 1974, "Cross-validatory choice and assessment of statistical predictions", J. R. Stat. Soc. B 36; for why no
interval of the best is right where several may be it, Luedtke and van der Laan 2016, doi:10.1214/15-AOS1384.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from tenth.evaluation.metrics.bootstrap import RESAMPLE_CHUNK, Interval, student_quantile

Values = npt.NDArray[np.float64]  # (P, S, 2): people, settings, the two qualities, higher is better
Reference = tuple[float, float]
SPLITS = 16  # random halves, of whose areas the mean is taken
MAGNIFIED = (1.0, 2.0)  # the deviations of resampled people: benchmarks/frontier_coverage.py


def transferred_area(chosen_on: Values, scored_on: Values, reference: Reference = (0.0, 0.0)) -> Values:
    """The area of the settings on the frontier of `chosen_on`, with the qualities that they have in `scored_on`: (...).

    chosen_on, scored_on: (..., S, 2). The rectangles' order is that of `chosen_on`: a sum of products, which does not flatter.
    With the same points on both sides it is `frontier.area`.
    """
    above = np.maximum(chosen_on, reference) - reference  # (..., S, 2)
    order = np.argsort(-above[..., 0], axis=-1, kind="stable")
    first, second = (np.take_along_axis(above[..., axis], order, -1) for axis in (0, 1))  # (..., S), the first falling
    scored = scored_on - np.array(reference)
    scored_first, scored_second = (np.take_along_axis(scored[..., axis], order, -1) for axis in (0, 1))
    widths = -np.diff(np.where(first > 0, scored_first, 0.0), axis=-1, append=0.0)

    # Each width is as high as the last setting that was higher than all before it.
    highest = np.maximum.accumulate(second, axis=-1)
    rises = np.diff(highest, axis=-1, prepend=0.0) > 0
    last = np.maximum.accumulate(np.where(rises, np.arange(rises.shape[-1]), -1), axis=-1)
    heights = np.where(last < 0, 0.0, np.take_along_axis(scored_second, np.maximum(last, 0), -1))
    areas: Values = (widths * heights).sum(-1)
    return areas


class CrossFitted:
    """A method's area by settings chosen on other people: the mean over `SPLITS` halvings, each half scored by the other.

    values: (P, S, 2), two people or more. The same seed gives the same halves and resamples, for each method.
    """

    def __init__(self, values: Values, reference: Reference, *, seed: int, resamples: int) -> None:
        self.values, self.reference, self.resamples = values, reference, resamples
        self._seed, people = seed, len(values)
        self.halves = _halves(people, SPLITS, np.random.default_rng([seed, 0]))  # (R, P)
        self.area = float(self._areas(self.halves, np.ones_like(self.halves), 1.0).mean())

    def resampled(self) -> Values:
        """Areas of resampled people, (2, B, 2): for each of MAGNIFIED, the means' deviations so magnified, by two halvings.

        People stay whole: all of a person's copies are in one half. Magnified, settings that are equally good look so in the
        resamples as well: Hong and Li 2018, "The numerical delta method", doi:10.1016/j.jeconom.2018.06.007.
        """
        rng, people = np.random.default_rng([self._seed, 1]), len(self.values)
        found = []
        for count in _chunks(self.resamples, people):
            counts = rng.multinomial(people, np.full(people, 1 / people), count).astype(np.float64)  # (b, P)
            halves = [_halves(people, count, rng) for _ in range(2)]
            areas = [[self._areas(each, counts, factor) / factor for each in halves] for factor in MAGNIFIED]
            found.append(np.moveaxis(np.array(areas), 1, 2))  # (2, b, 2)
        return np.concatenate(found, 1)

    def _areas(self, halves: Values, counts: Values, magnified: float) -> Values:
        """One area for each halving, (n,). halves, counts: (n, P). A half that is empty is as the other."""
        sizes, means = [], []
        for weights in (halves * counts, (1 - halves) * counts):
            size = weights.sum(1)  # (n,)
            sizes.append(size)
            means.append(np.tensordot(weights / np.maximum(size, 1)[:, None], self.values, 1))  # (n, S, 2)
        empty = [(size == 0)[:, None, None] for size in sizes]
        first, second = (np.where(empty[side], means[1 - side], means[side]) for side in (0, 1))
        center = self.values.mean(0)
        first, second = (center + magnified * (side - center) for side in (first, second))
        return cross_areas(first, second, self.reference, np.stack(sizes))


def cross_areas(first: Values, second: Values, reference: Reference, sizes: Values) -> Values:
    """Each half's area by the settings of the other, (...), weighted by its people. first, second: means; sizes: (2, ...)."""
    by_other = np.stack([transferred_area(second, first, reference), transferred_area(first, second, reference)])
    areas: Values = (by_other * sizes).sum(0) / sizes.sum(0)
    return areas


def difference_interval(a: CrossFitted, b: CrossFitted, resampled: tuple[Values, Values]) -> Interval:
    """Area of a minus that of b, of the same people, with its interval over people. resampled: of both, (2, B, 2).

    The spread is that of resampled people, as the covariance of two halvings of the same people, so that the chance of the
    halving is not counted for that of the people; the reach is Student's. Where settings are equally good the spread is too
    large without magnification, where they are apart with it: the smaller of both is taken.
    """
    people, value = len(a.values), a.area - b.area
    if people == 1:
        return Interval(value, None, None, 1)
    found = []
    for one, other in np.moveaxis(resampled[0] - resampled[1], 2, 1):  # (B,) each
        total, shared = float(one.var() + other.var()) / 2, max(float(np.cov(one, other)[0, 1]), 0.0)
        found.append(shared + max(total - shared, 0.0) / SPLITS)
    reach = student_quantile(0.95, people - 1) * math.sqrt(min(found) * people / (people - 1))
    return Interval(value, value - reach, value + reach, people)


def swap_signs(people: int, seed: int, resamples: int) -> Values:
    """Swapped or not, (B, P) of 1 and -1: all ways where these are at most `resamples`, else random ones after the observed."""
    if 2**people <= resamples:
        return np.array(list(product((1.0, -1.0), repeat=people)))
    random = np.random.default_rng(seed).choice([-1.0, 1.0], size=(resamples, people))
    return np.concatenate([np.ones((1, people)), random])


def label_swap(a: CrossFitted, b: CrossFitted, signs: Values) -> float:
    """p-value: the share of the swaps (B, P), the observed one first, that give as large a difference of areas."""
    middle, half = (a.values + b.values) / 2, (a.values - b.values) / 2  # (P, S, 2)
    sides = (a.halves, 1 - a.halves)
    sizes = np.stack([side.sum(1) for side in sides])  # (2, R)
    weights = [side / np.maximum(size, 1)[:, None] for side, size in zip(sides, sizes, strict=True)]  # (R, P)
    centers = [np.tensordot(each, middle, 1)[:, None] for each in weights]  # (R, 1, S, 2)

    def difference(chunk: Values) -> Values:
        first, second = (np.tensordot(each[:, None] * chunk[None], half, 1) for each in weights)  # (R, b, S, 2)
        areas = [
            cross_areas(centers[0] + sign * first, centers[1] + sign * second, a.reference, sizes[:, :, None])
            for sign in (1, -1)
        ]
        apart: Values = np.abs((areas[0] - areas[1]).mean(0))  # (b,)
        return apart

    step = max(1, RESAMPLE_CHUNK // (len(a.halves) * max(len(half), 2 * half.shape[1])))
    differences = np.concatenate([difference(signs[start : start + step]) for start in range(0, len(signs), step)])  # (B,)
    just_below = differences[0] - 1e-9 * float(np.abs(half).mean())  # sums in another order differ in the last bits
    return float((differences >= just_below).mean())


def _halves(people: int, count: int, rng: np.random.Generator) -> Values:
    """Random halves, (count, P) of 1 and 0, the smaller one 1; of one person alone the person is in both."""
    halves = np.zeros((count, people))
    halves[:, : people // 2] = 1
    return rng.permuted(halves, axis=1)


def _chunks(resamples: int, people: int) -> Iterator[int]:
    """How many resamples to take at a time."""
    step = max(1, RESAMPLE_CHUNK // people)
    return (min(step, resamples - start) for start in range(0, resamples, step))
