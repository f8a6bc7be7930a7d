"""The tables of a report as data, which the page and the Markdown show: scores, what was published, differences, costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mode

from tenth.core.wording import pluralize
from tenth.evaluation.registry import METRICS
from tenth.reporting.metric_columns import condition_text, decimals, heading, interval, label, number
from tenth.reporting.results_reader import IDENTITY, Difference, Result, Results

LEVEL = 0.05  # significance level, for corrected p-values
OTHERS = "Other metrics"  # the table of metrics that the registry does not know
# All that is known of the table this project starts from: three rows, two columns, and the range of each.
PUBLISHED = ("ip-adapter", "dreambooth", "ip-adapter-max")
PUBLISHED_RANGES = {"inception-score": "14 to 17", "fid": "9 to 10"}


@dataclass(frozen=True)
class Cell:
    """text, below it the interval and notes. style: a class of page.css."""

    text: str = ""
    interval: str = ""
    notes: tuple[str, ...] = ()
    style: str = ""
    bold: bool = False

    @property
    def with_interval(self) -> str:
        """In one line."""
        return f"{self.text} {self.interval}".rstrip()


Row = tuple[str, Sequence[Cell]]  # its name, and a cell for each column
EMPTY = Cell("-", style="none")


@dataclass(frozen=True)
class Table:
    """heads: of the columns after the first. bodies: rows in groups that stand apart. note: what the caption adds.

    left_out: a line for each reason why no method has a value in some columns; without other columns there are no heads.
    """

    title: str
    heads: Sequence[str]
    bodies: Sequence[Sequence[Row]]
    style: str = ""
    note: str = ""
    left_out: Sequence[str] = ()


def score_tables(results: Results, prompt_set: str, recognizer: str, *, alone: bool = False) -> list[Table]:
    """Methods in rows, below them the controls, metrics in columns: a table for each question.

    alone: only what this recognizer says, without the metrics that need none.
    """
    recognizers = {recognizer} if alone else {recognizer, ""}
    found = dict.fromkeys(r.metric for r in results.scores if r.prompt_set == prompt_set and r.recognizer in recognizers)
    groups: dict[str, list[str]] = {}
    for metric in (*METRICS, *(name for name in found if name not in METRICS)):
        if metric in found:
            groups.setdefault(METRICS[metric].group if metric in METRICS else OTHERS, []).append(metric)
    return [_score_table(results, prompt_set, recognizer, title, metrics) for title, metrics in groups.items()]


def published_table(results: Results) -> Table:
    """The three published rows, of which only ranges are known, beside what was measured here."""
    here = [(prompt_set, metric) for prompt_set in results.scored for metric in PUBLISHED_RANGES]
    heads = [f"published {label(metric)}" for metric in PUBLISHED_RANGES]
    heads += [f"{label(metric)}{on(prompt_set)}" for prompt_set, metric in here]
    published = [Cell(known, style="none") for known in PUBLISHED_RANGES.values()]
    rows = []
    for name in PUBLISHED:
        cells = [results.find(prompt_set, name, metric) for prompt_set, metric in here]
        shown = [
            Cell("not measured", style="none") if cell is None or cell.value is None else score_cell(cell) for cell in cells
        ]
        rows.append((name, [*published, *shown]))
    return Table("The published table, of which only ranges are known, and the same cells here", heads, [rows], "scores")


def conditions_table(results: Results, prompt_set: str) -> Table:
    """Similarity by the evaluation recognizer under each condition: the plots in figures."""
    cells = {name: [results.find(prompt_set, name, at=at) for at in results.conditions] for name in results.methods}
    heads = [condition_text(at) for at in results.conditions]
    return Table(f"{label(IDENTITY)}{on(prompt_set)} by the photos given", heads, [_rows(cells, _usual_n(cells))], "scores")


def pairs_table(results: Results, prompt_set: str) -> Table | None:
    """Similarity of the row minus that of the column, person by person, for all pairs that were compared."""
    found = {(a, b): results.difference(prompt_set, a, b) for a in results.names for b in results.names if a != b}
    names = [name for name in results.names if any(found[pair] is not None for pair in found if name in pair)]
    if not names:
        return None
    rows = {name: (name, [_difference_cell(found.get((name, other))) for other in names]) for name in names}
    bodies = [[rows[name] for name in group if name in rows] for group in (results.methods, results.controls)]
    corrected = all(difference.p_holm is not None for difference in found.values() if difference is not None)
    meaning = f"bold: corrected p < {LEVEL:g}" if corrected else "p is not corrected in this record"
    return Table(f"{label(IDENTITY)}{on(prompt_set)}", names, bodies, "pairs", f"Row minus column, same people; {meaning}")


def costs_table(results: Results) -> Table:
    """Time and memory of each method."""
    rows = [
        (cost.method, [*map(_amount_cell, (cost.seconds_per_person, cost.seconds_per_image, cost.peak_memory_mb))])
        for cost in results.costs
    ]
    return Table("On the machine named below", ["seconds per person", "seconds per image", "peak memory, MB"], [rows])


def failed_table(results: Results) -> Table:
    """People for whom a method gave no identity."""
    rows = [(failure.method, [Cell(failure.person), Cell(failure.reason, style="words")]) for failure in results.failed]
    return Table("Failures", ["person", "reason"], [rows])


def definitions(results: Results) -> dict[str, str]:
    """What each column is, in a line."""
    found = {result.metric for result in results.scores}
    known = {metric.label: metric.text for metric in METRICS.values() if metric.name in found}
    if any(result.raw is not None for result in results.scores):
        known["as generated"] = "the same metric on the images before LFW's alignment and codec"
    return known


def on(prompt_set: str) -> str:
    """The prompt set, where a caption names it."""
    return f", prompt set {prompt_set}" if prompt_set else ""


def score_cell(result: Result | None, usual_n: int | None = None) -> Cell:
    """A score with its interval, its n unless that is the usual one, and the value before LFW's codec; or why there is none."""
    if result is None or result.value is None:
        return EMPTY if result is None else Cell(result.unavailable or "not measured", style="none")
    places = decimals(result.metric)
    notes = [f"n = {result.n}"] if usual_n not in (None, result.n) else []
    notes += [] if result.raw is None else [f"as generated {number(result.raw, places)}"]
    return Cell(number(result.value, places), interval(result.low, result.high, places), tuple(notes))


Cells = Mapping[str, Sequence[Result | None]]  # by method, for each column


def _score_table(results: Results, prompt_set: str, recognizer: str, title: str, metrics: Sequence[str]) -> Table:
    cells: dict[str, list[Result | None]] = {}
    for name in results.names:
        row = [results.find(prompt_set, name, metric, recognizer=recognizer) for metric in metrics]
        if any(row):  # a prompt set may be for some methods alone
            cells[name] = row

    # A column in which no method has a value, for one reason, becomes a line.
    rows = [row for name, row in cells.items() if name in results.methods]
    reasons = [_only_reason(row[column] for row in rows) for column in range(len(metrics))]
    left_out: dict[str, list[str]] = {}
    for metric, reason in zip(metrics, reasons, strict=True):
        if reason:
            left_out.setdefault(reason, []).append(label(metric))
    lines = [f"{', '.join(labels)}: {reason}." for reason, labels in left_out.items()]
    cells = {name: [cell for cell, reason in zip(row, reasons, strict=True) if not reason] for name, row in cells.items()}

    usual = _usual_n(cells)
    people = pluralize(usual, "person")
    note = f"n = {people} unless a cell says otherwise; brackets: 95 % intervals over people." if usual else ""
    bodies = [
        _rows({name: cells[name] for name in group if name in cells}, usual) for group in (results.methods, results.controls)
    ]
    heads = [heading(metric) for metric, reason in zip(metrics, reasons, strict=True) if not reason]
    return Table(title, heads, bodies, "scores", note, lines)


def _only_reason(column: Iterable[Result | None]) -> str:
    """Why no cell has a value, if it is one reason for all of them; else ''."""
    reasons = {cell.unavailable or "not measured" if cell.value is None else "" for cell in column if cell is not None}
    return reasons.pop() if len(reasons) == 1 else ""


def _usual_n(cells: Cells) -> int:
    """The n that most cells with a value have."""
    return mode([cell.n for row in cells.values() for cell in row if cell is not None and cell.value is not None] or [0])


def _rows(cells: Cells, usual_n: int) -> list[Row]:
    return [(name, [score_cell(cell, usual_n) for cell in row]) for name, row in cells.items()]


def _difference_cell(difference: Difference | None) -> Cell:
    if difference is None:
        return Cell(style="none")
    p_value = difference.p_value if difference.p_holm is None else difference.p_holm
    notes = () if p_value is None else (f"p {'< 0.001' if p_value < 0.001 else f'{p_value:.3f}'}",)
    if difference.win_rate is not None:
        notes = (*notes, f"wins {100 * difference.win_rate:.0f} %")
    significant = difference.p_holm is not None and difference.p_holm < LEVEL
    tone = ("more" if difference.value > 0 else "less") if significant else ""
    return Cell(number(difference.value, 3, signed=True), "", notes, tone, bold=significant)


def _amount_cell(value: float | None) -> Cell:
    if value is None:
        return EMPTY
    return Cell(f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}")
