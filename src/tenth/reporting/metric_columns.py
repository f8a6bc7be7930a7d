"""Which metrics stand side by side, how their columns are headed, and how numbers are written."""

from __future__ import annotations

from tenth.core.wording import pluralize
from tenth.evaluation.registry import METRICS
from tenth.reporting.results_reader import Results

MINUS = "\N{MINUS SIGN}"
OTHERS = "Other metrics"  # the table of metrics that the registry does not know


def groups(results: Results, prompt_set: str, recognizer: str, *, alone: bool = False) -> dict[str, list[str]]:
    """Title of each table -> the metrics that this prompt set has by this recognizer and, unless `alone`, without one."""
    recognizers = {recognizer} if alone else {recognizer, ""}
    found = dict.fromkeys(r.metric for r in results.scores if r.prompt_set == prompt_set and r.recognizer in recognizers)
    tables: dict[str, list[str]] = {}
    for name in (*METRICS, *(name for name in found if name not in METRICS)):
        if name in found:
            tables.setdefault(METRICS[name].group if name in METRICS else OTHERS, []).append(name)
    return tables


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


def p_text(p_value: float | None) -> str:
    """A p-value as a table has it."""
    if p_value is None:
        return ""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def short(name: str) -> str:
    """A name without its digest."""
    return name.partition("@")[0]


def condition_text(condition: tuple[int, int]) -> str:
    """Photos given, and how many of them show somebody else."""
    photos, num_impostors = condition
    return pluralize(photos, "photo") + (f", {num_impostors} of another person" if num_impostors else "")


def unmeasured(results: Results) -> dict[str, list[str]]:
    """By reason, the metrics of image sets that no method has, such as those by a file that is not there."""
    reasons: dict[str, list[str]] = {}
    for metric in METRICS.values():
        cells = [result for result in results.scores if result.metric == metric.name and result.method in results.methods]
        of_sets = not {"faces", "prompts"} & set(metric.needs)
        if of_sets and cells and all(cell.value is None for cell in cells):
            reason = next((cell.unavailable for cell in cells if cell.unavailable), "no reason is given")
            reasons.setdefault(reason, []).append(metric.label)
    return reasons
