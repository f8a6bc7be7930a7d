"""What several recognizers say of the same images: their similarities side by side, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tenth.reporting.metric_columns import interval, label, number, short
from tenth.reporting.results_reader import IDENTITY, IntervalEstimate, Recognizer, Results
from tenth.reporting.tables import Cell, Table, on, score_cell


def recognizers_table(results: Results, prompt_set: str) -> Table | None:
    """Similarity by each recognizer at the main condition, with each method's rank; None with one recognizer alone."""
    recognizers = sorted(results.recognizers, key=lambda recognizer: recognizer.selection_only)
    if len(recognizers) < 2:
        return None
    columns = [_column(results, prompt_set, recognizer) for recognizer in recognizers]
    bodies = [
        [(name, [column[name] for column in columns]) for name in group if any(column[name].text != "-" for column in columns)]
        for group in (results.methods, results.controls)
    ]
    heads = list(_heads(results, recognizers).values())
    return Table(f"{label(IDENTITY)} by each recognizer{on(prompt_set)}", heads, bodies, "scores")


def agreement_lines(results: Results, prompt_set: str) -> list[str]:
    """A sentence for each pair of recognizers at the main condition."""
    heads = _heads(results, results.recognizers)
    return [
        f"{heads.get(each.recognizer, each.recognizer)} and {heads.get(each.other, each.other)}: rank correlation of the "
        f"{each.num_methods} methods {_correlation(each.between_methods)}; for one person, averaged over {each.per_person.n}, "
        f"{_correlation(each.per_person)}."
        for each in results.agreement
        if each.prompt_set == prompt_set and (each.num_photos, each.num_impostors) == results.main
    ]


def _heads(results: Results, recognizers: Sequence[Recognizer]) -> dict[str, str]:
    """What each recognizer is called in a table, by name: without its digest, unless two would be called alike."""
    counted = Counter(short(each.name) for each in results.recognizers)
    return {each.name: short(each.name) if counted[short(each.name)] == 1 else each.name for each in recognizers}


def _column(results: Results, prompt_set: str, recognizer: Recognizer) -> dict[str, Cell]:
    """A cell for each method and control, methods with their rank, but those that lack people."""
    found = {name: results.find(prompt_set, name, recognizer=recognizer.name) for name in results.names}
    complete = [name for name in results.methods if name not in results.partial]
    values = {name: cell.value for name in complete if (cell := found[name]) is not None and cell.value is not None}
    cells = {name: score_cell(cell) for name, cell in found.items()}
    for name, value in values.items():
        rank = 1 + sum(other > value for other in values.values())
        cells[name] = replace(cells[name], notes=(f"rank {rank}",))
    return cells


def _correlation(found: IntervalEstimate) -> str:
    return f"{number(found.value, 2)} {interval(found.low, found.high, 2)}".rstrip()
