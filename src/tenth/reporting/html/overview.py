"""The plot of all methods, as data: a dot and an interval in each row, the controls that bound them as bands behind all rows.

It becomes HTML, not a drawing: it is as wide as a phone or a screen, and needs no matplotlib.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tenth.reporting.claims import ANCHORS, ranking
from tenth.reporting.metric_columns import interval, number
from tenth.reporting.results_reader import Estimate, Results

STEPS = (0.05, 0.1, 0.2, 0.5)  # between ticks, cosines
MAX_TICKS = 6


@dataclass(frozen=True)
class Mark:
    """A row or a band. value, interval: in words. at, start, width: of the dot and the interval, percent of the axis."""

    name: str
    value: str
    interval: str
    at: float
    start: float
    width: float


@dataclass(frozen=True)
class Overview:
    """rows: methods, then controls, each the highest first. bands: controls. ticks: (words, percent of the axis)."""

    methods: Sequence[Mark]
    controls: Sequence[Mark]
    bands: Sequence[Mark]
    ticks: Sequence[tuple[str, float]]


def overview(results: Results, prompt_set: str) -> Overview | None:
    """Similarity at the main condition by the evaluation recognizer, best first; None if no method has any."""
    methods = {name: results.measured(prompt_set, name) for name in ranking(results, prompt_set)}
    controls = {name: results.measured(prompt_set, name) for name in results.controls}
    found = {name: each for name, each in (methods | controls).items() if each}
    if not methods:
        return None

    # An axis from zero or below to past the highest end, in whole steps.
    lowest, highest = min(0.0, *(min(each) for each in found.values())), max(max(each) for each in found.values())
    step = next((step for step in STEPS if (highest - lowest) / step <= MAX_TICKS), (highest - lowest) / MAX_TICKS)
    ends = math.floor(lowest / step + 1e-9), max(math.ceil(highest / step - 1e-9), 1)
    span = (ends[1] - ends[0]) * step

    def percent(value: float) -> float:
        return round(100 * (value - ends[0] * step) / span, 2)

    def mark(name: str, each: Estimate) -> Mark:
        start, end = percent(min(each)), percent(max(each))
        text = interval(each.low, each.high, 3) if each.low < each.high else ""
        return Mark(name, number(each.value, 3), text, percent(each.value), start, round(end - start, 2))

    marks = {name: mark(name, each) for name, each in found.items()}
    ordered = sorted((name for name in controls if name in marks), key=lambda name: -marks[name].at)
    ticks = [
        (f"{tick * step:.2g}".replace("-", "\N{MINUS SIGN}"), percent(tick * step)) for tick in range(ends[0], ends[1] + 1)
    ]
    return Overview(
        [marks[name] for name in methods],
        [marks[name] for name in ordered],
        [marks[name] for name in ANCHORS if name in marks],
        ticks,
    )
