"""The page's tables: methods and controls by metric, what was published, differences of all pairs, costs, failures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tenth.core.wording import pluralize
from tenth.evaluation.registry import IDENTITY_COLUMNS, IMAGE_SET_COLUMNS, PROMPT_COLUMNS, Column
from tenth.reporting.html.elements import Content, Markup, element
from tenth.reporting.html.summary import LEVEL
from tenth.reporting.metric_columns import chance, condition_text, groups, heading, interval, number, places
from tenth.reporting.results_reader import Difference, Result, Results

# All that is known of the table this project starts from: three rows, two columns, and the range of each.
PUBLISHED = ("ip-adapter", "dreambooth", "ip-adapter-max")
PUBLISHED_RANGES = {"inception-score": Column("IS", "14 to 17"), "fid": Column("FID", "9 to 10")}
Cells = Mapping[str, Mapping[str, Result | None]]  # by method, by metric


def table(caption: str, head: Sequence[Content], bodies: Sequence[Sequence[Markup]], class_: str = "") -> Markup:
    """A table in a box of its own, which scrolls sideways when it must. bodies: rows, in groups that stand apart."""
    columns = [element("th", text, scope="col") if text else element("td") for text in head]
    parts = [element("tbody", rows) for rows in bodies if rows]
    made = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", columns)),
        parts,
        class_=class_ or None,
    )
    # Focusable, so that whoever has no mouse can scroll it.
    return element("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def score_tables(results: Results, track: str, judge: str, *, alone: bool = False) -> list[Markup]:
    """Methods in rows, below them the controls, metrics in columns: a table for each question.

    alone: only what this recogniser says, without the metrics that ask none.
    """
    shown = groups(results, track, judge, alone=alone)
    return [_score_table(results, track, judge, title, columns) for title, columns in shown]


def _score_table(results: Results, track: str, judge: str, title: str, columns: Mapping[str, Column]) -> Markup:
    cells = {name: {metric: results.find(track, name, metric, judge) for metric in columns} for name in results.names}
    shown = {metric: [cells[name][metric] for name in results.names] for metric in columns}
    decimals = {metric: places(cell.value for cell in of if cell is not None) for metric, of in shown.items()}
    counts = [cell.n for of in shown.values() for cell in of if cell is not None and cell.value is not None]
    usual = max(set(counts), key=counts.count, default=0)
    caption = (
        f"{title}. n = {pluralize(usual, 'person')} where a cell says nothing else; brackets: 95 % over people."
        if counts
        else title
    )
    head = ["", *(heading(column, shown[metric]) for metric, column in columns.items())]
    bodies = [_score_rows(names, cells, decimals, usual) for names in (results.methods, results.controls)]
    return table(caption, head, bodies, "scores")


def _score_rows(names: Sequence[str], cells: Cells, decimals: Mapping[str, int], usual: int) -> list[Markup]:
    """A row for each name. Neighbouring columns without any value, for one reason, are one cell with the reason in it."""
    rows = []
    reasons = {metric: _only_reason([cells[name][metric] for name in names]) for metric in decimals}
    for place, name in enumerate(names):
        made: list[Markup] = [element("th", name, scope="row")]
        for metric, width in _spans(reasons):
            reason = reasons[metric]
            if not reason:
                made.append(_cell(cells[name][metric], decimals[metric], usual))
            elif place == 0:
                made.append(element("td", reason, class_="none", colspan=width if width > 1 else None, rowspan=len(names)))
        rows.append(element("tr", made))
    return rows


def _only_reason(cells: Sequence[Result | None]) -> str:
    """Why none of these has a value, if it is one reason for all of them."""
    found = {cell.unavailable if cell is not None and cell.value is None else "" for cell in cells}
    return found.pop() if len(found) == 1 else ""


def _spans(reasons: Mapping[str, str]) -> list[tuple[str, int]]:
    """The first metric of each run with one reason, and how many it has; any other metric alone."""
    runs: list[tuple[str, int]] = []
    for metric, reason in reasons.items():
        if runs and reason and reasons[runs[-1][0]] == reason:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((metric, 1))
    return runs


def _cell(cell: Result | None, decimals: int, usual: int) -> Markup:
    if cell is None:
        return element("td", "-", class_="none")
    if cell.value is None:
        return element("td", cell.unavailable or "not measured", class_="none")
    notes = [interval(cell.low, cell.high, decimals), f"n = {cell.n}" if cell.n != usual else ""]
    notes.append("" if cell.raw is None else f"as drawn {number(cell.raw, decimals)}")
    return element("td", number(cell.value, decimals), [element("small", note) for note in notes if note])


def published_table(results: Results) -> Markup:
    """The three published rows, of which only ranges are known, beside what was measured here."""
    cells = {name: dict(_published(results, name)) for name in PUBLISHED}
    values = {column: places(cells[name][column].value for name in PUBLISHED) for column in cells[PUBLISHED[0]]}
    counts = [cell.n for row in cells.values() for cell in row.values() if cell.n]
    caption = "The published table, of which only ranges are known, and the same cells here"
    rows = _score_rows(PUBLISHED, cells, values, max(set(counts), key=counts.count, default=0))
    return table(caption, ["", *values], [rows], "scores")


def _published(results: Results, name: str) -> Iterator[tuple[str, Result]]:
    for metric, known in PUBLISHED_RANGES.items():
        yield f"published {known.name}", Result("", 0, name, metric, unavailable=known.text)
    for track in results.scored:
        for metric, known in PUBLISHED_RANGES.items():
            missing = Result(track, 0, name, metric, unavailable="not in this record")
            yield f"{known.name}{_on(track)}", results.find(track, name, metric) or missing


def conditions_table(results: Results, track: str) -> Markup:
    """Identity by the headline recogniser under each condition: what the panels show, in figures."""
    cells = {
        name: {condition_text(at): results.find(track, name, "identity", results.judge.name, at) for at in results.conditions}
        for name in results.methods
    }
    columns = [condition_text(at) for at in results.conditions]
    counts = [cell.n for row in cells.values() for cell in row.values() if cell is not None]
    rows = _score_rows(results.methods, cells, dict.fromkeys(columns, 3), max(set(counts), key=counts.count, default=0))
    return table(f"Identity{_on(track)} by the photos given", ["", *columns], [rows], "scores")


def pairs_table(results: Results, track: str) -> Markup | None:
    """Identity of the row minus that of the column, person by person, for all pairs that were compared."""
    found = {(a, b): results.difference(track, a, b) for a in results.names for b in results.names if a != b}
    names = [name for name in results.names if any(found[pair] is not None for pair in found if name in pair)]
    if not names:
        return None
    rows = {
        name: element("tr", element("th", name, scope="row"), [_pair(found.get((name, other))) for other in names])
        for name in names
    }
    bodies = [[rows[name] for name in group if name in rows] for group in (results.methods, results.controls)]
    corrected = all(each.p_holm is not None for each in found.values() if each is not None)
    meaning = f"bold: corrected p < {LEVEL:g}" if corrected else "p is not corrected in this record"
    caption = f"Identity{_on(track)}: row minus column, same people; {meaning}"
    return table(caption, ["minus", *names], bodies, "pairs")


def _pair(each: Difference | None) -> Markup:
    if each is None:
        return element("td", class_="none")
    value, sure = number(each.value, 3, signed=True), each.p_holm is not None and each.p_holm < LEVEL
    chances = chance(each.p_value if each.p_holm is None else each.p_holm)
    notes = [f"p {chances}" if chances else "", "" if each.win_rate is None else f"wins {100 * each.win_rate:.0f} %"]
    tone = ("more" if each.value > 0 else "less") if sure else None
    return element("td", element("b", value) if sure else value, [element("small", note) for note in notes], class_=tone)


def costs_table(results: Results) -> Markup:
    """Time and memory of each method."""
    head = ["", "seconds for a person", "seconds for an image", "peak memory, MB"]
    rows = [
        element("tr", element("th", cost.method, scope="row"), [_amount(value) for value in values])
        for cost in results.costs
        for values in [(cost.seconds_person, cost.seconds_image, cost.peak_mb)]
    ]
    return table("What a method takes, on the machine named below", head, [rows])


def failed_table(results: Results) -> Markup:
    """People for whom a method gave nothing."""
    rows = [
        element(
            "tr", element("th", each.method, scope="row"), element("td", each.person), element("td", each.why, class_="words")
        )
        for each in results.failed
    ]
    return table("Cells that failed", ["", "person", "why"], [rows])


def _amount(value: float | None) -> Markup:
    if value is None:
        return element("td", "-", class_="none")
    return element("td", f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value < 1 else f"{value:.1f}")


def _on(track: str) -> str:
    return f", track {track}" if track else ""


def definitions(results: Results) -> Markup:
    """What each column is, in a line."""
    found = {result.metric for result in results.scores}
    known = {
        column.name: column.text
        for name, column in (IDENTITY_COLUMNS | PROMPT_COLUMNS | IMAGE_SET_COLUMNS).items()
        if name in found
    }
    if any(result.raw is not None for result in results.scores):
        known["as drawn"] = "the same metric on the images before they went through LFW's alignment and codec"
    return element("dl", [(element("dt", name), element("dd", text)) for name, text in known.items()])
