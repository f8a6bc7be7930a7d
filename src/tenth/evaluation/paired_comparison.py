"""Paired comparison of methods, person by person, with p-values corrected for the number of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from tenth.core.errors import DataError
from tenth.core.wording import abbreviate
from tenth.evaluation.metrics.bootstrap import PairedDifference, paired_difference
from tenth.evaluation.metrics.identity import PersonScores


@dataclass(frozen=True)
class Comparison(PairedDifference):
    """Method minus `baseline`, over n people: mean of the per-person differences with its 95 % interval.

    p_value: of a sign-flip test of this pair alone. p_holm: corrected for all pairs of the table; never below p_value.
    win_rate: fraction of people for whom the method is higher, ties counting half; 0.5 for equal methods.
    """

    method: str
    baseline: str
    p_holm: float
    win_rate: float


def compare(values: Mapping[str, PersonScores], *, resamples: int = 10_000, common_people: bool = False) -> list[Comparison]:
    """All pairs of methods on one metric, in the order given: (first, second), (first, third), ..., (second, third), ...

    values: method -> person -> the mean over that person's images; the same people for each method, in any order.
    common_people: methods may have different people; each pair is compared on those of both, and left out if there are none.
    Intervals and p-values: `bootstrap.paired_difference`. Raises DataError if the people differ, or if a value is not finite.
    """
    if not common_people:
        _require_same_people(values)
    columns = {
        (a, b): _align_people(values[a], values[b]) for a, b in combinations(values, 2) if set(values[a]) & set(values[b])
    }
    differences = [paired_difference(first, second, resamples=resamples) for first, second in columns.values()]
    corrected = holm([difference.p_value for difference in differences])
    return [
        Comparison(**vars(difference), method=a, baseline=b, p_holm=p_holm, win_rate=win_rate(first, second))
        for ((a, b), (first, second)), difference, p_holm in zip(columns.items(), differences, corrected, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values in the order given, corrected: the i-th smallest of m times m - i + 1, and not below a smaller one's.

    Source: Holm 1979, Scandinavian Journal of Statistics 6, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values, np.float64)[order] * factors), 1)
    return [float(value) for value in corrected]


def win_rate(a: Sequence[float], b: Sequence[float]) -> float:
    """Fraction of people for whom a is higher, ties counting half. a, b: (P,), the same people in the same order."""
    return float((1 + np.sign(np.asarray(a, np.float64) - np.asarray(b, np.float64))).mean() / 2)


def _require_same_people(values: Mapping[str, PersonScores]) -> None:
    people = set(next(iter(values.values()), {}))
    for method, column in values.items():
        if odd := sorted(people ^ set(column)):
            found = f"{method} and {next(iter(values))} have values of different people ({abbreviate(odd)})"
            action = "Compare on common people, and say which were left out"
            raise DataError(found, "a paired difference needs the same people", action)


def _align_people(first: PersonScores, second: PersonScores) -> tuple[list[float], list[float]]:
    """Both sides' values of the people that both have, in one order."""
    people = sorted(set(first) & set(second))
    return [first[person] for person in people], [second[person] for person in people]
