"""A record's scores and paired differences as CSV: a line for each row of each table, numbers in full."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from io import StringIO
from pathlib import Path

from tenth.core.files.writing import write_text
from tenth.evaluation.registry import METRICS
from tenth.reporting.results_reader import CONTROLS, Condition, Result, Results

SCORES_FILE, DIFFERENCES_FILE = "table.csv", "differences.csv"
WHERE = ("prompt_set", "photos", "impostors", "recognizer")
ROW = ("row", "kind", "model", "width", "height")
DIFFERENCE = ("row", "baseline", "metric", "difference", "low", "high", "p", "p_holm", "win_rate", "n")


def write_csv(results: Results, folder: Path) -> None:
    """Write the scores and the differences beside the record."""
    write_text(folder / SCORES_FILE, scores_csv(results))
    write_text(folder / DIFFERENCES_FILE, differences_csv(results))


def scores_csv(results: Results) -> str:
    """Prompt set, condition, recognizer, the row with its model and image size, then value, low, high and n of each metric.

    Rows in the record's order within each table; metrics that need no recognizer are in a line of their own, without one.
    """
    metrics = [name for name in METRICS if any(score.metric == name for score in results.scores)]
    cells: dict[tuple[str, Condition, str, str], dict[str, Result]] = {}
    for score in results.scores:
        key = (score.prompt_set, (score.num_photos, score.num_impostors), score.recognizer, score.method)
        cells.setdefault(key, {})[score.metric] = score
    order = {name: place for place, name in enumerate((*results.methods, *results.controls))}
    tables = list(dict.fromkeys(key[:3] for key in cells))

    # In the record's order of tables and rows.
    lines: list[list[object]] = []
    for table, name in sorted(((key[:3], key[3]) for key in cells), key=lambda pair: (tables.index(pair[0]), order[pair[1]])):
        prompt_set, (photos, impostors), recognizer = table
        system = results.system(name)
        kind = "control" if name in CONTROLS else "system"
        line = [prompt_set, photos, impostors, recognizer, name, kind, system.model, system.width, system.height]
        for metric in metrics:
            cell = cells[*table, name].get(metric)
            line += [None] * 4 if cell is None else [cell.value, cell.low, cell.high, cell.n]
        lines.append(line)
    heads = [f"{metric}{part}" for metric in metrics for part in ("", "-low", "-high", "-n")]
    return _csv([*WHERE, *ROW, *heads], lines)


def differences_csv(results: Results) -> str:
    """A line for each recorded difference, row minus baseline, person by person."""
    lines = [
        [
            *(each.prompt_set, each.num_photos, each.num_impostors, each.recognizer, each.method, each.baseline, each.metric),
            *(each.value, each.low, each.high, each.p_value, each.p_holm, each.win_rate, each.n or None),
        ]
        for each in results.differences
    ]
    return _csv([*WHERE, *DIFFERENCE], lines)


def _inert(cell: object) -> object:
    """A text that a spreadsheet would run as a formula, after an apostrophe: rows come from other people."""
    return f"'{cell}" if isinstance(cell, str) and cell.lstrip().startswith(("=", "+", "-", "@")) else cell


def _csv(heads: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([heads, *(map(_inert, line) for line in lines)])
    return text.getvalue()
