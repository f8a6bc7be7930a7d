"""Bootstrap intervals over people. The unit is the person: images of one person are not independent of each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError

Values = npt.NDArray[np.float64]
RESAMPLE_CHUNK = 1_000_000  # values per chunk of resamples: 8 MB
FEW_PEOPLE = 20  # of fewer the bootstrap does not reach as far as it should


@dataclass(frozen=True)
class Interval:
    """A mean over n people and its interval. low, high: None for one person."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class PairedDifference(Interval):
    """A mean of per-person differences, its interval, and the p-value of a sign-flip test."""

    p_value: float


def bootstrap_interval(
    values_per_person: Sequence[float] | Values, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Interval:
    """Bootstrap of the mean over people, corrected for bias and skewness (BCa), wider for few people, as Student's t is.

    values_per_person: (P,), each the mean over that person's images. The same seed gives the same interval. Of fewer than 20
    people it is at least Student's, and may leave the values' range. Sources: Efron 1987, doi:10.1080/01621459.1987.10478410;
    Hesterberg 2015, doi:10.1080/00031305.2015.1089789, for the tails. Raises DataError for no people or NaN.
    """
    values, mean = _validated_values(values_per_person), float(np.mean(values_per_person))
    people, spread = len(values), float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if people == 1:
        return Interval(mean, None, None, 1)
    if not spread:
        return Interval(mean, mean, mean, people)
    means = _resampled_means(values, seed, resamples, people)
    low, high = map(float, np.quantile(means, _corrected_tails(values, means, level)))
    if people < FEW_PEOPLE:
        reach = student_quantile(level, people - 1) * spread / math.sqrt(people)
        low, high = min(low, mean - reach), max(high, mean + reach)
    return Interval(mean, low, high, people)


def share_interval(values_per_person: Sequence[float] | Values) -> Interval:
    """`bootstrap_interval` of shares, (P,): within [0, 1], and never of no width for two people or more.

    Where most people have the lowest value, or the highest, as where all have everything or all tie, resampling says nothing of
    people beyond it: up to 1 - `lowest_share` of all people may be, with a share of 0, or of 1.
    """
    found = bootstrap_interval(values_per_person)
    if found.low is None or found.high is None:
        return found
    values, unseen = np.asarray(values_per_person, np.float64), 1 - lowest_share(found.n)
    least, most = float(values.min()), float(values.max())
    low = found.value - unseen * least if (values == least).mean() > 0.5 else found.low
    high = found.value + unseen * (1 - most) if (values == most).mean() > 0.5 else found.high
    return replace(found, low=max(min(low, found.low), 0.0), high=min(max(high, found.high), 1.0))


def lowest_share(people: int, level: float = 0.95) -> float:
    """The least share that people who all have everything are compatible with, as if each were one trial.

    A bootstrap of equal values says nothing of what is rarer than they are many. Source: Clopper and Pearson 1934,
    doi:10.1093/biomet/26.4.404.
    """
    return float(((1 - level) / 2) ** (1 / people))


def paired_difference(
    a: Sequence[float] | Values, b: Sequence[float] | Values, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> PairedDifference:
    """Mean of a - b over the same people, in the same order, with interval and two-sided sign-flip permutation p-value.

    a, b: (P,). All 2^P signs where these are at most `resamples`, else that many random ones, counting the one observed.
    Source: Phipson and Smyth 2010, doi:10.2202/1544-6115.1585. Raises DataError if the lengths differ, for no people or NaN.
    """
    first, second = _validated_values(a), _validated_values(b)
    if len(first) != len(second):
        raise DataError(f"{len(first)} and {len(second)} people", "a pair needs the same people", "Compare on common people")
    differences = first - second
    interval = bootstrap_interval(differences, seed=seed, resamples=resamples, level=level)
    return PairedDifference(**vars(interval), p_value=_sign_flip(differences, seed, resamples))


def independent_difference(
    a: Sequence[float] | Values, b: Sequence[float] | Values, *, seed: int = 0, resamples: int = 10_000, level: float = 0.95
) -> Interval:
    """Mean of a minus mean of b, of different people, with the interval of a bootstrap within each: (P,) and (Q,), 2 or more.

    Each resample has one person fewer than its group, so that its means spread as the groups' do; the quantiles have the reach
    of Student's t with Welch's degrees of freedom. n: P + Q. Sources: Rao and Wu 1988, doi:10.1080/01621459.1988.10478591;
    Welch 1947, doi:10.1093/biomet/34.1-2.28. Raises DataError for fewer people, or NaN.
    """
    groups = [_validated_values(values) for values in (a, b)]
    if min(map(len, groups)) < 2:
        found = f"groups of {len(groups[0])} and {len(groups[1])} people"
        raise DataError(found, "two people of each are needed", "Add people, or leave the groups out")
    value, people = float(groups[0].mean() - groups[1].mean()), len(groups[0]) + len(groups[1])
    parts = [float(values.var(ddof=1)) / len(values) for values in groups]
    if not sum(parts):
        return Interval(value, value, value, people)
    dof = sum(parts) ** 2 / sum(part**2 / (len(values) - 1) for part, values in zip(parts, groups, strict=True))
    tail = NormalDist().cdf(-student_quantile(level, max(1, int(dof))))
    first, second = (_resampled_means(values, seed + index, resamples, len(values) - 1) for index, values in enumerate(groups))
    low, high = np.quantile(first - second, [tail, 1 - tail])
    return Interval(value, float(low), float(high), people)


def expanded_tail(level: float, people: int) -> float:
    """The quantile of resampled means with the reach of Student's t for P >= 2 people: less than (1 - level) / 2.

    Resampled means spread too little, by sqrt((P - 1) / P), and normal quantiles are too narrow for an estimated spread.
    """
    return NormalDist().cdf(-_expanded_reach(level, people))


@cache
def _expanded_reach(level: float, people: int) -> float:
    return student_quantile(level, people - 1) * math.sqrt(people / (people - 1))


def _corrected_tails(values: Values, means: Values, level: float) -> tuple[float, float]:
    """Both quantiles of resampled means of values that differ. Source: Efron 1987, eq. 6.5, with `expanded_tail`'s reach."""
    deviations, normal = values - values.mean(), NormalDist()
    acceleration = float((deviations**3).sum()) / (6 * float((deviations**2).sum()) ** 1.5)
    centered, slack = means - values.mean(), 1e-12 * float(np.abs(deviations).mean())  # sums in another order differ a little
    below = float((centered < -slack).mean() + (centered <= slack).mean()) / 2  # a mean that is the values' is half below
    bias, reach = normal.inv_cdf(min(max(below, 1e-6), 1 - 1e-6)), _expanded_reach(level, len(values))
    low, high = (normal.cdf(bias + (bias + z) / max(1 - acceleration * (bias + z), 0.1)) for z in (-reach, reach))
    return low, high


def student_quantile(probability: float, dof: int) -> float:
    """The bound of |t| at this probability, by bisection over the angle atan(t / sqrt(dof))."""
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_probability(middle, dof) < probability else (low, middle)
    return math.sqrt(dof) * math.tan(low)


def _student_probability(angle: float, dof: int) -> float:
    """Probability that |t| < sqrt(dof) tan(angle). Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    odd, cosine = dof % 2, math.cos(angle)
    term = total = cosine if odd else 1.0
    for step in range(2 + odd, dof - 1, 2):
        term *= (step - 1) / step * cosine**2
        total += term
    if not odd:
        return math.sin(angle) * total
    return 2 / math.pi * (angle + (math.sin(angle) * total if dof > 1 else 0.0))


def _validated_values(values: Sequence[float] | Values) -> Values:
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise DataError(
            f"values of shape {array.shape}, {int((~np.isfinite(array)).sum())} of them not finite",
            "one finite number per person is needed",
            "Average each person's images first, and say what a missing one counts as",
        )
    return array


def _resampled_means(values: Values, seed: int, resamples: int, draws: int) -> Values:
    """Means of so many draws from the values, (resamples,)."""
    rng, size = np.random.default_rng(seed), len(values)
    return np.concatenate([values[rng.integers(size, size=(count, draws))].mean(1) for count in _chunks(resamples, size)])


def _chunks(resamples: int, size: int) -> list[int]:
    """How many resamples of so many values to take at a time."""
    chunk = max(1, RESAMPLE_CHUNK // size)
    return [min(chunk, resamples - start) for start in range(0, resamples, chunk)]


def _sign_flip(differences: Values, seed: int, resamples: int) -> float:
    size, observed = len(differences), abs(float(differences.mean()))
    just_below = observed - 1e-12 * float(np.abs(differences).mean())  # sums in another order differ in the last bits
    if 2**size <= resamples:
        signs = np.array(list(product((-1.0, 1.0), repeat=size)))  # (2^P, P)
        return float((np.abs(signs @ differences) / size >= just_below).mean())
    rng = np.random.default_rng(seed)
    means = (rng.choice([-1.0, 1.0], size=(count, size)) @ differences / size for count in _chunks(resamples, size))
    as_large = sum(int((np.abs(chunk) >= just_below).sum()) for chunk in means)
    return (as_large + 1) / (resamples + 1)
