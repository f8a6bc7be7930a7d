"""The tables of a report as data, which the page and the Markdown show: scores, differences, costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from statistics import mode

from tenth.core.wording import pluralize
from tenth.evaluation.registry import METRICS
from tenth.reporting.claims import LEVEL, Verdict, p_text, ranking, verdict
from tenth.reporting.metric_columns import condition_text, decimals, heading, interval, label, number, short
from tenth.reporting.results_reader import IDENTITY, Difference, Result, Results

OTHERS = "Other metrics"  # the table of metrics that the registry does not know


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

    unavailable: by reason, which cells have no value. A column in which no method has one is left out; without other columns
    there are no heads.
    """

    title: str
    heads: Sequence[str]
    bodies: Sequence[Sequence[Row]]
    style: str = ""
    note: str = ""
    unavailable: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def left_out(self) -> list[str]:
        """A line for each reason why cells have no value."""
        return reason_lines([self.unavailable])


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


def conditions_table(results: Results, prompt_set: str) -> Table:
    """Similarity by the evaluation recognizer under each condition: the plots in figures."""
    names = _ordered(results, prompt_set, results.methods)
    cells = {name: [results.find(prompt_set, name, at=at) for at in results.conditions] for name in names}
    heads = [condition_text(at) for at in results.conditions]
    return Table(f"{label(IDENTITY)}{on(prompt_set)} by the photos given", heads, [_rows(cells, _usual_n(cells))], "scores")


def pairs_table(results: Results, prompt_set: str) -> Table | None:
    """Similarity of the row minus that of the column, person by person, for all pairs that were compared."""
    names = [*_ordered(results, prompt_set, results.methods), *results.controls]
    found = {(a, b): results.difference(prompt_set, a, b) for a in names for b in names if a != b}
    names = [name for name in names if any(found[pair] is not None for pair in found if name in pair)]
    if not names:
        return None
    most = max(difference.n for difference in found.values() if difference is not None)
    rows = {name: (name, [_difference_cell(found.get((name, other)), most) for other in names]) for name in names}
    bodies = [[rows[name] for name in names if (name in results.methods) == methods] for methods in (True, False)]
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


def measured_on(results: Results, method: str) -> str:
    """'pocket, 128 x 128 pixels': the model of a row, the size of its images, and its notes, as far as the record says."""
    system = results.system(method)
    size = f"{system.width} x {system.height} pixels" if system.width and system.height else ""
    model = short(system.model or str(results.settings.get("model") or ""))
    return ", ".join(filter(None, (model, size, *results.notes.get(method, ()))))


def all_measured_on(results: Results) -> str:
    """The same of all methods; empty where they differ."""
    found = {measured_on(results, name) for name in results.methods}
    return found.pop() if len(found) == 1 else ""


def score_cell(result: Result | None, usual_n: int | None = None) -> Cell:
    """A score with its interval, its n unless that is the usual one, and the value before LFW's codec; a dash without one."""
    if result is None or result.value is None:
        return EMPTY
    places = decimals(result.metric)
    notes = [f"n = {result.n}"] if usual_n not in (None, result.n) else []
    notes += [] if result.raw is None else [f"as generated {number(result.raw, places)}"]
    return Cell(number(result.value, places), interval(result.low, result.high, places), tuple(notes))


Cells = Mapping[str, Sequence[Result | None]]  # by method, for each column


def _score_table(results: Results, prompt_set: str, recognizer: str, title: str, metrics: Sequence[str]) -> Table:
    cells: dict[str, list[Result | None]] = {}
    for name in (*_ordered(results, prompt_set, results.methods), *results.controls):
        row = [results.find(prompt_set, name, metric, recognizer=recognizer) for metric in metrics]
        if any(row):  # a prompt set may be for some methods alone
            cells[name] = row

    # Columns in which no method has a value are left out; each reason why a cell has none is a line.
    methods = [name for name in cells if name in results.methods]
    shown = [any(_has_value(cells[name][column]) for name in methods) for column in range(len(metrics))]
    reasons = unavailable(
        {
            metric: {name: cells[name][column] for name in (cells if shown[column] else methods)}
            for column, metric in enumerate(metrics)
        }
    )
    cells = {name: list(compress(row, shown)) for name, row in cells.items()}
    metrics = list(compress(metrics, shown))

    # How many people a column is over is said once where that is the usual number of the table, and of other columns.
    usual = _usual_n({name: cells[name] for name in methods})
    people = mode(usual) if usual else 0
    others = "".join(f" ({label(metric)}: {n})" for metric, n in zip(metrics, usual, strict=True) if n != people)
    note = f"n = {pluralize(people, 'person')}{others} unless a cell says otherwise; brackets: 95 % intervals over people."
    groups = [[name for name in cells if (name in methods) == is_method] for is_method in (True, False)]
    bodies = [_rows({name: cells[name] for name in group}, usual) for group in groups]
    return Table(title, list(map(heading, metrics)), bodies, "scores", note if people else "", reasons)


def unavailable(columns: Mapping[str, Mapping[str, Result | None]]) -> dict[str, list[str]]:
    """Why cells have no value: by reason the metrics without any by it, or the rows that have none of a metric.

    columns: by metric, its cells by row.
    """
    found: dict[str, list[str]] = {}
    for metric, column in columns.items():
        cells = {name: cell for name, cell in column.items() if cell is not None}
        reasons: dict[str, list[str]] = {}
        for name, cell in cells.items():
            if cell.value is None:
                reasons.setdefault((cell.unavailable or "not measured").removesuffix("."), []).append(name)
        for reason, names in reasons.items():
            rows = "" if len(names) == len(cells) else f" of {', '.join(names)}"
            found.setdefault(reason, []).append(f"{label(metric)}{rows}")
    return found


def reason_lines(tables: Iterable[Mapping[str, Sequence[str]]]) -> list[str]:
    """A line for each reason of `unavailable`, in whichever tables it stands."""
    found: dict[str, dict[str, None]] = {}
    for reason, part in ((reason, part) for reasons in tables for reason, parts in reasons.items() for part in parts):
        found.setdefault(reason, {})[part] = None
    return [f"{', '.join(parts)}: {reason}." for reason, parts in found.items()]


def _has_value(cell: Result | None) -> bool:
    return cell is not None and cell.value is not None


def _ordered(results: Results, prompt_set: str, names: Iterable[str]) -> list[str]:
    """The highest similarity first, then those without any, in their order."""
    ranked = ranking(results, prompt_set)
    return sorted(names, key=lambda name: ranked.index(name) if name in ranked else len(ranked))


def _usual_n(cells: Cells) -> list[int]:
    """The n that most cells with a value have, for each column."""
    columns = zip(*cells.values(), strict=True)
    return [mode([cell.n for cell in column if cell is not None and cell.value is not None] or [0]) for column in columns]


def _rows(cells: Cells, usual_n: Sequence[int]) -> list[Row]:
    return [(name, [score_cell(cell, n) for cell, n in zip(row, usual_n, strict=True)]) for name, row in cells.items()]


def _difference_cell(difference: Difference | None, most_people: int) -> Cell:
    """Row minus column, with its n where others of the table are of more people."""
    if difference is None:
        return Cell(style="none")
    p_value = difference.p_value if difference.p_holm is None else difference.p_holm
    notes = () if p_value is None else (p_text(p_value),)
    if difference.win_rate is not None:
        notes = (*notes, f"wins {100 * difference.win_rate:.0f} %")
    if difference.n < most_people:
        notes = (*notes, f"n = {difference.n}")
    tone = {Verdict.HIGHER: "more", Verdict.LOWER: "less"}.get(verdict(difference), "")
    return Cell(number(difference.value, 3, signed=True), "", notes, tone, bold=bool(tone))


def _amount_cell(value: float | None) -> Cell:
    if value is None:
        return EMPTY
    return Cell(f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}")
