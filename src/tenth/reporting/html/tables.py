"""The page's tables as data, which one template draws: scores, what was published, differences of all pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenth.core.wording import pluralize
from tenth.evaluation.registry import METRICS
from tenth.reporting.metric_columns import condition_text, decimals, groups, heading, interval, label, number, p_text
from tenth.reporting.results_reader import IDENTITY, Difference, Result, Results

LEVEL = 0.05  # significance level, for corrected p-values
# All that is known of the table this project starts from: three rows, two columns, and the range of each.
PUBLISHED = ("ip-adapter", "dreambooth", "ip-adapter-max")
PUBLISHED_RANGES = {"inception-score": "14 to 17", "fid": "9 to 10"}

Cells = Mapping[str, Mapping[str, Result | None]]  # by method, by column


@dataclass(frozen=True)
class Cell:
    """text, below it notes. style: a class of page.css. across, down: how many columns and rows it takes."""

    text: str = ""
    notes: tuple[str, ...] = ()
    style: str = ""
    bold: bool = False
    across: int = 1
    down: int = 1


@dataclass(frozen=True)
class Table:
    """heads: of the columns after the first. bodies: rows in groups that stand apart, each a name and its cells."""

    caption: str
    heads: Sequence[str]
    bodies: Sequence[Sequence[tuple[str, Sequence[Cell]]]]
    style: str = ""


def score_tables(results: Results, prompt_set: str, recognizer: str, *, alone: bool = False) -> list[Table]:
    """Methods in rows, below them the controls, metrics in columns: a table for each question.

    alone: only what this recognizer says, without the metrics that need none.
    """
    return [
        _score_table(results, prompt_set, recognizer, title, metrics)
        for title, metrics in groups(results, prompt_set, recognizer, alone=alone).items()
    ]


def published_table(results: Results) -> Table:
    """The three published rows, of which only ranges are known, beside what was measured here."""
    columns: dict[str, int] = {}
    cells: dict[str, dict[str, Result | None]] = {name: {} for name in PUBLISHED}
    for name, row in cells.items():
        for metric, known in PUBLISHED_RANGES.items():
            row[f"published {label(metric)}"] = Result("", 0, name, metric, unavailable=known)
        for prompt_set in results.scored:
            for metric in PUBLISHED_RANGES:
                missing = Result(prompt_set, 0, name, metric, unavailable="not in this record")
                row[f"{label(metric)}{on(prompt_set)}"] = results.find(prompt_set, name, metric) or missing
        columns |= {column: decimals(cell.metric) for column, cell in row.items() if cell}
    caption = "The published table, of which only ranges are known, and the same cells here"
    return Table(caption, list(columns), [_rows(PUBLISHED, cells, columns, _usual(cells))], "scores")


def conditions_table(results: Results, prompt_set: str) -> Table:
    """Similarity by the main recognizer under each condition: the plots in figures."""
    columns = {condition_text(at): decimals(IDENTITY) for at in results.conditions}
    cells = {
        name: {
            condition_text(at): results.find(prompt_set, name, IDENTITY, results.recognizer.name, at)
            for at in results.conditions
        }
        for name in results.methods
    }
    rows = _rows(results.methods, cells, columns, _usual(cells))
    return Table(f"{label(IDENTITY)}{on(prompt_set)} by the photos given", list(columns), [rows], "scores")


def pairs_table(results: Results, prompt_set: str) -> Table | None:
    """Similarity of the row minus that of the column, person by person, for all pairs that were compared."""
    found = {(a, b): results.difference(prompt_set, a, b) for a in results.names for b in results.names if a != b}
    names = [name for name in results.names if any(found[pair] is not None for pair in found if name in pair)]
    if not names:
        return None
    rows = {name: (name, [_pair(found.get((name, other))) for other in names]) for name in names}
    bodies = [[rows[name] for name in group if name in rows] for group in (results.methods, results.controls)]
    corrected = all(each.p_holm is not None for each in found.values() if each is not None)
    meaning = f"bold: corrected p < {LEVEL:g}" if corrected else "p is not corrected in this record"
    caption = f"{label(IDENTITY)}{on(prompt_set)}: row minus column, same people; {meaning}"
    return Table(caption, names, bodies, "pairs")


def costs_table(results: Results) -> Table:
    """Time and memory of each method."""
    rows = [
        (cost.method, [_amount(cost.seconds_per_person), _amount(cost.seconds_per_image), _amount(cost.peak_memory_mb)])
        for cost in results.costs
    ]
    return Table("On the machine named below", ["seconds per person", "seconds per image", "peak memory, MB"], [rows])


def failed_table(results: Results) -> Table:
    """People for whom a method gave nothing."""
    rows = [(each.method, [Cell(each.person), Cell(each.reason, style="words")]) for each in results.failed]
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


def _score_table(results: Results, prompt_set: str, recognizer: str, title: str, metrics: Sequence[str]) -> Table:
    cells = {name: {metric: results.find(prompt_set, name, metric, recognizer) for metric in metrics} for name in results.names}
    usual = _usual(cells)
    caption = f"{title}. n = {pluralize(usual, 'person')} unless a cell says otherwise; brackets: 95 % intervals over people."
    columns = {metric: decimals(metric) for metric in metrics}
    measured = [name for name in results.names if any(cells[name].values())]  # a prompt set may be for some methods alone
    parts = [[name for name in names if name in measured] for names in (results.methods, results.controls)]
    bodies = [_rows(names, cells, columns, usual) for names in parts]
    heads = ["\N{NO-BREAK SPACE}".join(heading(metric).rsplit(" ", 1)) for metric in metrics]  # no arrow alone in a line
    return Table(caption if usual else title, heads, bodies, "scores")


def _usual(cells: Cells) -> int:
    """The n that most cells with a value have."""
    counts = [cell.n for row in cells.values() for cell in row.values() if cell is not None and cell.value is not None]
    return max(set(counts), key=counts.count, default=0)


def _rows(names: Sequence[str], cells: Cells, columns: Mapping[str, int], usual: int) -> list[tuple[str, list[Cell]]]:
    """A row for each name. Neighbouring columns without any value, for one reason, are one cell with the reason in it.

    columns: decimals by column.
    """
    reasons = {column: _only_reason([cells[name][column] for name in names]) for column in columns}
    rows = []
    for place, name in enumerate(names):
        made = []
        for column, width in _spans(reasons):
            if not reasons[column]:
                made.append(_cell(cells[name][column], columns[column], usual))
            elif place == 0:
                made.append(Cell(reasons[column], style="none", across=width, down=len(names)))
        rows.append((name, made))
    return rows


def _only_reason(cells: Sequence[Result | None]) -> str:
    """Why none of these has a value, if it is one reason for all of them."""
    found = {cell.unavailable if cell is not None and cell.value is None else "" for cell in cells}
    return found.pop() if len(found) == 1 else ""


def _spans(reasons: Mapping[str, str]) -> list[tuple[str, int]]:
    """The first column of each run with one reason, and how many it has; any other column alone."""
    runs: list[tuple[str, int]] = []
    for column, reason in reasons.items():
        if runs and reason and reasons[runs[-1][0]] == reason:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((column, 1))
    return runs


def _cell(cell: Result | None, places: int, usual: int) -> Cell:
    if cell is None:
        return Cell("-", style="none")
    if cell.value is None:
        return Cell(cell.unavailable or "not measured", style="none")
    notes = [interval(cell.low, cell.high, places), f"n = {cell.n}" if cell.n != usual else ""]
    notes.append("" if cell.raw is None else f"as generated {number(cell.raw, places)}")
    return Cell(number(cell.value, places), tuple(filter(None, notes)))


def _pair(each: Difference | None) -> Cell:
    if each is None:
        return Cell(style="none")
    chance = p_text(each.p_value if each.p_holm is None else each.p_holm)
    notes = [f"p {chance}" if chance else "", "" if each.win_rate is None else f"wins {100 * each.win_rate:.0f} %"]
    significant = each.p_holm is not None and each.p_holm < LEVEL
    tone = ("more" if each.value > 0 else "less") if significant else ""
    return Cell(number(each.value, 3, signed=True), tuple(filter(None, notes)), tone, bold=significant)


def _amount(value: float | None) -> Cell:
    if value is None:
        return Cell("-", style="none")
    return Cell(f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}")
