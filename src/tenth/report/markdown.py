"""The page's main tables as Markdown, for table.md and for a README."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tenth.report.columns import Column, condition_text, groups, heading, places
from tenth.report.results import Result, Results, read_results


def markdown(record: Mapping[str, Any], metrics: Collection[str] = ()) -> str:
    """A table for each track and question at the main condition, by the headline recogniser. metrics: only these, if any.

    Raises DataError if the record is not one of `tenth experiment`.
    """
    results = read_results(record)
    parts = [f"> {results.meaningless}\n"] if results.meaningless else []
    for track in results.scored:
        title = ", ".join(filter(None, [f"track {track}" if track else "", condition_text(results.main)]))
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        for about, columns in groups(results, track, results.judge.name):
            wanted = {name: column for name, column in columns.items() if not metrics or name in metrics}
            if wanted:
                parts.append(f"### {about}\n\n{_why_none(results, track, wanted) or _table(results, track, wanted)}")
    note = f"Brackets: 95 % over people. Judged by {_cell(results.judge.name)}." if results.judge.name else "Brackets: 95 %."
    return "\n".join([*parts, note]) + "\n"


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
        lines.append(_line([f"*{_cell(name)}*" if name in results.controls else f"`{_cell(name)}`", *shown]))
    return "\n".join(lines) + "\n"


def _line(cells: Collection[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _score(cell: Result | None, decimals: int) -> str:
    if cell is None:
        return "-"
    if cell.value is None:
        return _cell(cell.unavailable or "not measured")
    known = cell.low is not None and cell.high is not None
    return f"{cell.value:.{decimals}f}" + (f" [{cell.low:.{decimals}f}, {cell.high:.{decimals}f}]" if known else "")


def _cell(text: str) -> str:
    """A text that cannot leave its cell, and in which a browser finds no element."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return plain.replace("<", "&lt;") if "<" in plain else plain
