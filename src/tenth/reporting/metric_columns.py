"""How columns are headed, and how numbers and conditions are written."""

from __future__ import annotations

from tenth.core.wording import pluralize
from tenth.evaluation.registry import METRICS
from tenth.reporting.results_reader import Condition

MINUS = "\N{MINUS SIGN}"


def label(metric: str) -> str:
    """What a column is called."""
    return METRICS[metric].label if metric in METRICS else metric


def heading(metric: str) -> str:
    """The label, and an arrow towards what is better."""
    return f"{label(metric)} {METRICS[metric].arrow}" if metric in METRICS else metric


def decimals(metric: str) -> int:
    """Of the numbers in a column."""
    return METRICS[metric].decimals if metric in METRICS else 3


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """With a true minus, and no sign before a zero."""
    text = f"{value:{'+' if signed else ''}.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", MINUS)


def interval(low: float | None, high: float | None, decimals: int) -> str:
    """As [low, high], empty where there is none."""
    return "" if low is None or high is None else f"[{number(low, decimals)}, {number(high, decimals)}]"


def short(name: str) -> str:
    """A name without its digest."""
    return name.partition("@")[0]


def condition_text(condition: Condition) -> str:
    """'9 photos', '9 photos, 1 impostor'."""
    num_photos, num_impostors = condition
    return pluralize(num_photos, "photo") + (f", {pluralize(num_impostors, 'impostor')}" if num_impostors else "")
