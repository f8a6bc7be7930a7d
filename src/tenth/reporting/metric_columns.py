"""Which metrics stand side by side, what they are called, and how their numbers are written."""

from __future__ import annotations

from collections.abc import Iterable

from tenth.core.wording import pluralize
from tenth.evaluation.registry import COLUMN_GROUPS, IDENTITY_COLUMNS, IMAGE_SET_COLUMNS, PROMPT_COLUMNS, Column
from tenth.reporting.results_reader import Result, Results

ARROWS = {"higher": "↑", "lower": "↓"}
MINUS = "\N{MINUS SIGN}"


def groups(results: Results, track: str, judge: str, *, alone: bool = False) -> list[tuple[str, dict[str, Column]]]:
    """The groups with the metrics that this track has by this recogniser and, unless `alone`, by none.

    Metrics that this version does not know come last, by their own name.
    """
    judges = {judge} if alone else {judge, ""}
    found = dict.fromkeys(r.metric for r in results.scores if r.track == track and r.judge in judges)
    known = IDENTITY_COLUMNS | PROMPT_COLUMNS | IMAGE_SET_COLUMNS
    others = {name: Column(name, "") for name in found if name not in known}
    shown = [
        (title, {name: each for name, each in of.items() if name in found})
        for title, of in (*COLUMN_GROUPS, ("Others", others))
    ]
    return [(title, of) for title, of in shown if of]


def heading(column: Column, cells: Iterable[Result | None]) -> str:
    """The name, and an arrow towards what is better."""
    arrows = {ARROWS.get(cell.better, "") for cell in cells if cell is not None} - {""}
    return f"{column.name} {arrows.pop()}" if len(arrows) == 1 else column.name


def places(values: Iterable[float | None]) -> int:
    """Decimals of a column: so many that its largest number has three digits or four."""
    largest = max((abs(value) for value in values if value is not None), default=1.0)
    return next((decimals for least, decimals in ((10.0, 1), (2.0, 2), (0.01, 3)) if largest >= least), 4)


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """With a minus that is one, and no sign before a zero."""
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", MINUS)


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """As [low, high], empty where there is none."""
    return "" if low is None or high is None else f"[{number(low, decimals)}, {number(high, decimals)}]"


def chance(p_value: float | None) -> str:
    """A p-value as a table has it."""
    if p_value is None:
        return ""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def short(name: str) -> str:
    """A name without its digest."""
    return name.partition("@")[0]


def condition_text(condition: tuple[int, int]) -> str:
    """Photos given, and how many of them show somebody else."""
    photos, wrong = condition
    return pluralize(photos, "photo") + (f", {wrong} wrong" if wrong else "")


def unmeasured(results: Results) -> dict[str, list[str]]:
    """By reason, the metrics of pictures as a set that no method has, such as those by a file that is not there."""
    reasons: dict[str, list[str]] = {}
    for metric, column in IMAGE_SET_COLUMNS.items():
        cells = [result for result in results.scores if result.metric == metric and result.method in results.methods]
        if cells and all(cell.value is None for cell in cells):
            reason = next((cell.unavailable for cell in cells if cell.unavailable), "no reason is given")
            reasons.setdefault(reason, []).append(column.name)
    return reasons
