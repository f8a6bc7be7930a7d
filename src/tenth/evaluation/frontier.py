"""The frontier of two qualities that are traded: which settings no other beats on both, and the area under them, over people.

Here the qualities are the prompt obeyed and the person kept; the more text guidance, the more of one and the less of the other.
A method's area says how well it can be set; two methods are compared by it without choosing settings for either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.evaluation.cross_fitting import CrossFitted, Reference, Values, difference_interval, label_swap, swap_signs
from tenth.evaluation.metrics.bootstrap import RESAMPLE_CHUNK, Interval, PairedDifference, expanded_tail
from tenth.evaluation.paired_comparison import holm

MAGNIFIED = 3.0  # the deviations of resampled people: benchmarks/frontier_coverage.py


@dataclass(frozen=True)
class FrontierComparison(PairedDifference):
    """Area of a method minus that of `baseline`, by settings chosen on other people: not the difference of their `area`s.

    p_value: of this pair alone; p_holm: corrected for all pairs.
    """

    method: str
    baseline: str
    p_holm: float


def on_frontier(points: Values) -> npt.NDArray[np.bool_]:
    """Whether each of S points (S, 2) is beaten by no other, as good in both and better in one: (S,)."""
    as_good = np.greater_equal(points[None], points[:, None]).all(2)  # (S, S): whether the second is as good as the first
    better = np.greater(points[None], points[:, None]).any(2)
    beaten = np.logical_and(as_good, better).any(1)
    best: npt.NDArray[np.bool_] = np.logical_not(beaten)
    return best


def area(points: Values, reference: Reference = (0.0, 0.0)) -> Values:
    """The area under the frontier of points (..., S, 2) and above the reference point: their hypervolume, (...).

    It is the area of the union of the rectangles between the reference point and each point; points that are not above it add
    nothing. Source: Zitzler and Thiele 1999, IEEE Transactions on Evolutionary Computation 3, doi:10.1109/4235.797969.
    """
    above = np.maximum(points, reference) - reference  # (..., S, 2)
    order = np.argsort(-above[..., 0], axis=-1, kind="stable")
    first, second = (np.take_along_axis(above[..., axis], order, -1) for axis in (0, 1))  # (..., S), the first falling
    widths = -np.diff(first, axis=-1, append=0.0)
    areas: Values = (widths * np.maximum.accumulate(second, axis=-1)).sum(-1)
    return areas


def compare_frontiers(
    values: Mapping[str, Values], reference: Reference = (0.0, 0.0), *, seed: int = 0, resamples: int = 10_000
) -> tuple[dict[str, Interval], list[FrontierComparison]]:
    """Each method's area, of the means over people, with its interval; and all pairs of methods, in the order given.

    values: (P, S, 2) of each method: the same people, in the same order, and the same settings. People are resampled whole,
    with all their settings, and the frontier is found anew. The best of several noisy points flatters, so the interval lies
    lower around the value than that of a mean. Its deviations are magnified, which keeps it valid where settings are equally
    good: Hong and Li 2018, "The numerical delta method", doi:10.1016/j.jeconom.2018.06.007. Differences are of settings chosen
    on other people (cross_fitting.py); p-value: the two methods' labels are swapped person by person, as signs are flipped in
    `paired_difference`.
    Raises DataError if the shapes differ, for no people, or if a value is not finite.
    """
    _validate(values)
    areas = {name: float(area(each.mean(0), reference)) for name, each in values.items()}
    deviations = {name: _area_deviations(each, reference, seed, resamples) for name, each in values.items()}
    intervals = {name: _interval(value, deviations[name], len(values[name])) for name, value in areas.items()}

    # Pairs, on the same halves and resampled people.
    pairs = list(combinations(values, 2))
    fitted = {name: CrossFitted(each, reference, seed=seed, resamples=resamples) for name, each in values.items()}
    resampled = {name: each.resampled() for name, each in fitted.items()} if pairs else {}
    signs = swap_signs(len(next(iter(values.values()))), seed, resamples)
    differences = [
        PairedDifference(
            **vars(difference_interval(fitted[a], fitted[b], (resampled[a], resampled[b]))),
            p_value=label_swap(fitted[a], fitted[b], signs),
        )
        for a, b in pairs
    ]
    corrected = holm([each.p_value for each in differences])
    return intervals, [
        FrontierComparison(**vars(each), method=a, baseline=b, p_holm=p_holm)
        for (a, b), each, p_holm in zip(pairs, differences, corrected, strict=True)
    ]


def _area_deviations(values: Values, reference: Reference, seed: int, resamples: int) -> Values:
    """Area of the frontier of resampled people minus that of all, (B,), the means' deviations magnified."""
    rng, people, mean = np.random.default_rng(seed), len(values), values.mean(0)
    step = max(1, RESAMPLE_CHUNK // people)
    counts = (min(step, resamples - start) for start in range(0, resamples, step))
    weights = (rng.multinomial(people, np.full(people, 1 / people), count) / people for count in counts)  # (b, P)
    means = np.concatenate([np.tensordot(each, values, 1) for each in weights])  # (B, S, 2)
    deviations: Values = (area(mean + MAGNIFIED * (means - mean), reference) - area(mean, reference)) / MAGNIFIED
    return deviations


def _interval(value: float, deviations: Values, people: int) -> Interval:
    """The value minus the quantiles of the deviations, wider for few people as in `bootstrap_interval`; it holds the value."""
    if people == 1:
        return Interval(value, None, None, 1)
    tail = expanded_tail(0.95, people)
    below, above = np.quantile(deviations, [tail, 1 - tail])
    return Interval(value, value - max(float(above), 0.0), value - min(float(below), 0.0), people)


def _validate(values: Mapping[str, Values]) -> None:
    shapes = {each.shape for each in values.values()}
    finite = all(np.isfinite(each).all() for each in values.values())
    if len(shapes) != 1 or not finite or len(shape := shapes.pop()) != 3 or shape[2] != 2 or 0 in shape:
        found = f"values of shapes {sorted(each.shape for each in values.values())}{'' if finite else ', not all finite'}"
        needed = "two finite numbers for each person and setting are needed, the same people and settings for each method"
        raise DataError(found, needed, "Compare on common people and settings")
