"""A record as Markdown: all of its main tables, for table.md, or one table of methods, for a README."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tenth.core.wording import pluralize
from tenth.evaluation.registry import Column
from tenth.reporting.metric_columns import condition_text, groups, heading, places, short
from tenth.reporting.results_reader import Cost, Difference, Result, Results, read_results


def markdown(record: Mapping[str, Any]) -> str:
    """A table for each track and question at the main condition, by the headline recogniser.

    Raises DataError if the record is not one of `tenth experiment`.
    """
    results = read_results(record)
    parts = [f"> {results.meaningless}\n"] if results.meaningless else []
    for track in results.scored:
        title = ", ".join(filter(None, [f"track {track}" if track else "", condition_text(results.main)]))
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        for about, columns in groups(results, track, results.judge.name):
            parts.append(f"### {about}\n\n{_why_none(results, track, columns) or _table(results, track, columns)}")
    note = f"Brackets: 95 % over people. Judged by {_cell(results.judge.name)}." if results.judge.name else "Brackets: 95 %."
    return "\n".join([*parts, note]) + "\n"


def summary(record: Mapping[str, Any]) -> str:
    """One table: a line for each method and control, most like the person first, and below it what it is of.

    Raises DataError if the record is not one of `tenth experiment`.
    """
    results = read_results(record)
    first, *others = results.scored
    costs = {cost.method: cost for cost in results.costs}
    words = {track: f"words, track {track}" for track in others if _has(results, track, "prompt-adherence")}
    heads = ["", "the person", "a stranger", f"above `{_cell(results.baseline)}`", "copy index", "diversity", "face distance"]
    heads += [*words.values(), "seconds a person", "seconds an image"]
    lines = [_line(heads), "| --- |" + " ---: |" * (len(heads) - 1)]
    for name in (*sorted(results.methods, key=lambda name: -_value(results, first, name)), *results.controls):
        difference = results.difference(first, name, results.baseline)
        cells = [_score(results.find(first, name, "identity", results.judge.name), 3)]
        cells += [_score(results.find(first, name, "stranger", results.judge.name), 3, ends=False)]
        cells += [_span(difference, 3) if difference else ""]
        for metric in ("copy-index", "identity-diversity", "face-distance"):
            cells.append(_score(results.find(first, name, metric, results.judge.name), 3, ends=False))
        cells += [_score(results.find(track, name, "prompt-adherence"), 3, ends=False) for track in words]
        cost = costs.get(name, Cost(name))
        cells += ["" if each is None else f"{each:.3g}" for each in (cost.seconds_person, cost.seconds_image)]
        lines.append(_line([_row_name(results, name), *cells]))
    return "\n".join([*lines, "", _of_what(results)]) + "\n"


def _has(results: Results, track: str, metric: str) -> bool:
    cells = (results.find(track, name, metric) for name in results.methods)
    return any(cell is not None and cell.value is not None for cell in cells)


def _value(results: Results, track: str, name: str) -> float:
    cell = results.find(track, name, "identity", results.judge.name)
    return -1.0 if cell is None or cell.value is None else cell.value


def _of_what(results: Results) -> str:
    """The sentence below the summary: people, photos, images, judge, time."""
    images = [
        f"{pluralize(results.tracks[name].images, 'image')} of each in track {name}"
        for name in results.scored
        if name in results.tracks
    ]
    split = results.settings.get("split", "")
    people = pluralize(len(results.people), f"{split} person", f"{split} people")
    said = [f"{people}, {condition_text(results.main)}", *images]
    said.append(f"judged by {_cell(short(results.judge.name))}")
    cost = sum(_seconds(results, each) for each in results.costs) / 3600
    hours = f" Learning and drawing them all: {cost:.1f} hours by the medians above." if cost else ""
    return f"{'; '.join(said)}. Brackets: 95 % over people.{hours}"


def _seconds(results: Results, cost: Cost) -> float:
    """What a method took for all people and images."""
    drawn = [
        track.images
        for name, track in results.tracks.items()
        if results.find(name, cost.method, "identity", results.judge.name)
    ]
    return len(results.people) * ((cost.seconds_person or 0.0) + (cost.seconds_image or 0.0) * sum(drawn))


def _why_none(results: Results, track: str, columns: Mapping[str, Column]) -> str:
    """One sentence in place of a table in which every cell says the same: why nothing was measured. Else nothing."""
    cells = [results.find(track, name, metric, results.judge.name) for name in results.names for metric in columns]
    reasons = {cell.unavailable for cell in cells if cell is not None and cell.value is None}
    if len(reasons) != 1 or any(cell is not None and cell.value is not None for cell in cells):
        return ""
    return f"{', '.join(column.name for column in columns.values())}: {_cell(reasons.pop() or 'not measured')}.\n"


def _table(results: Results, track: str, columns: Mapping[str, Column]) -> str:
    cells = {name: [results.find(track, name, metric, results.judge.name) for metric in columns] for name in results.names}
    by_column = list(zip(*cells.values(), strict=True))
    decimals = [places(cell.value for cell in column if cell) for column in by_column]
    heads = [heading(column, found) for column, found in zip(columns.values(), by_column, strict=True)]
    lines = [_line(["", *heads]), "| --- |" + " ---: |" * len(heads)]
    for name in (*results.methods, *results.controls):
        shown = [_score(cell, places) for cell, places in zip(cells[name], decimals, strict=True)]
        lines.append(_line([_row_name(results, name), *shown]))
    return "\n".join(lines) + "\n"


def _line(cells: Collection[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row_name(results: Results, name: str) -> str:
    return f"*{_cell(name)}*" if name in results.controls else f"`{_cell(name)}`"


def _score(cell: Result | None, decimals: int, *, ends: bool = True) -> str:
    """A cell's text. ends: of its interval too."""
    if cell is None:
        return "-"
    if cell.value is None:
        return _cell(cell.unavailable or "not measured")
    return _span(cell, decimals) if ends else f"{cell.value:.{decimals}f}"


def _span(cell: Result | Difference, decimals: int) -> str:
    """The value, and its interval where it has one."""
    known = cell.low is not None and cell.high is not None
    return f"{cell.value:.{decimals}f}" + (f" [{cell.low:.{decimals}f}, {cell.high:.{decimals}f}]" if known else "")


def _cell(text: str) -> str:
    """A text that cannot leave its cell, and in which a browser finds no element."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return plain.replace("<", "&lt;") if "<" in plain else plain
