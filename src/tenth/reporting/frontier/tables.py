"""The frontier in figures: the area of each method with the differences of all pairs, and every setting."""

from __future__ import annotations

from tenth.reporting.claims import LEVEL, p_text
from tenth.reporting.frontier.record import AreaDifference, Frontier
from tenth.reporting.metric_columns import decimals, heading, interval, label, number
from tenth.reporting.results_reader import IDENTITY, IntervalEstimate
from tenth.reporting.tables import Cell, Table, on

AREA_DECIMALS = 3


def areas_table(frontier: Frontier) -> Table:
    """Methods in rows, the largest area first: the area, and that minus each other method's."""
    ranked = sorted(frontier.methods, key=lambda each: -each.area.value)
    names = [each.method for each in ranked]
    others = names if len(names) > 1 else []
    rows = [
        (
            each.method,
            [_mean(each.area, AREA_DECIMALS), *(_difference(frontier.difference(each.method, name)) for name in others)],
        )
        for each in ranked
    ]
    prompt, person = (f"{end:g}" for end in frontier.reference_point)
    title = f"Area under the frontier{on(frontier.prompt_set)}"
    note = f"Above {label(frontier.prompt_metric)} {prompt} and {label(IDENTITY)} {person}"
    pairs = "; then row minus column, same people, settings chosen on one half of them and scored on the other, p corrected"
    note += f"{pairs} for all pairs" if others else ""
    return Table(title, ["area ↑", *(f"minus {name}" for name in others)], [rows], "scores", note)


def points_table(frontier: Frontier) -> Table:
    """Each method's settings."""
    metrics = (frontier.prompt_metric, IDENTITY)
    bodies = []
    for method in frontier.methods:
        rows = []
        for point in method.points:
            means = zip(metrics, (point.prompt, point.person), strict=True)
            cells = [_mean(mean, decimals(metric)) for metric, mean in means]
            cells.append(Cell("yes" if point.on_frontier else ""))
            rows.append((f"{method.method}, {point.setting}", cells))
        bodies.append(rows)
    note = "On the frontier: no other setting of the method is as good in both and better in one"
    return Table(f"Settings{on(frontier.prompt_set)}", [*map(heading, metrics), "on the frontier"], bodies, "scores", note)


def _mean(mean: IntervalEstimate, places: int) -> Cell:
    return Cell(number(mean.value, places), interval(mean.low, mean.high, places))


def _difference(found: AreaDifference | None) -> Cell:
    if found is None:
        return Cell(style="none")
    p_value = found.p_holm
    notes = () if p_value is None else (p_text(p_value),)
    sure = p_value is not None and p_value < LEVEL
    tone = ("more" if found.value > 0 else "less") if sure else ""
    ends = interval(found.low, found.high, AREA_DECIMALS)
    return Cell(number(found.value, AREA_DECIMALS, signed=True), ends, notes, tone, bold=sure)
