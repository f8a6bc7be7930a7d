"""A record as Markdown: all of its main tables, for table.md, or one table of methods, for a README."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tenth.core.wording import pluralize
from tenth.reporting.metric_columns import condition_text, decimals, groups, heading, label, short
from tenth.reporting.results_reader import IDENTITY, Cost, Difference, Result, Results, read_results

# The summary's further columns: without intervals, which would make it too wide.
BESIDE = ("copy-paste-index", "identity-diversity", "face-frechet-distance")
WORDS = "attribute-accuracy"


def markdown(record: Mapping[str, Any]) -> str:
    """A table for each prompt set and question at the main condition, by the main recognizer.

    Raises DataError if the record is not one of `tenth experiment`.
    """
    results = read_results(record)
    parts = [f"> {results.disclaimer}\n"] if results.disclaimer else []
    for prompt_set in results.scored:
        title = ", ".join(filter(None, [f"prompt set {prompt_set}" if prompt_set else "", condition_text(results.main)]))
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        for about, metrics in groups(results, prompt_set, results.recognizer.name).items():
            parts.append(f"### {about}\n\n{_why_none(results, prompt_set, metrics) or _table(results, prompt_set, metrics)}")
    recognizer = f" Recognizer: {_cell(results.recognizer.name)}." if results.recognizer.name else ""
    return "\n".join([*parts, f"Brackets: 95 % intervals over people.{recognizer}"]) + "\n"


def summary(record: Mapping[str, Any]) -> str:
    """One table: a line for each method and control, the highest similarity first, and below it what it is of.

    Raises DataError if the record is not one of `tenth experiment`.
    """
    results = read_results(record)
    first, *others = results.scored
    by = results.recognizer.name
    costs = {cost.method: cost for cost in results.costs}
    prompted = [prompt_set for prompt_set in others if _has(results, prompt_set, WORDS)]

    # The columns' heads, and a line under them.
    heads = ["", heading(IDENTITY), heading("impostor-similarity"), f"Δ vs `{_cell(results.baseline)}`", *map(heading, BESIDE)]
    heads += [f"{heading(WORDS)} (prompt set {prompt_set})" for prompt_set in prompted]
    heads += ["seconds per person", "seconds per image"]
    lines = [_line(heads), "| --- |" + " ---: |" * (len(heads) - 1)]

    # A row for each method, then for each control.
    for name in (*sorted(results.methods, key=lambda name: -_value(results, first, name)), *results.controls):
        difference = results.difference(first, name, results.baseline)
        cells = [_score(results.find(first, name, IDENTITY, by))]
        cells.append(_score(results.find(first, name, "impostor-similarity", by), ends=False))
        cells.append(_span(difference, 3) if difference else "")
        cells += [_score(results.find(first, name, metric, by), ends=False) for metric in BESIDE]
        cells += [_score(results.find(prompt_set, name, WORDS), ends=False) for prompt_set in prompted]
        cost = costs.get(name, Cost(name))
        cells += ["" if each is None else f"{each:.3g}" for each in (cost.seconds_per_person, cost.seconds_per_image)]
        lines.append(_line([_row_name(results, name), *cells]))
    return "\n".join([*lines, "", _of_what(results)]) + "\n"


def _has(results: Results, prompt_set: str, metric: str) -> bool:
    cells = (results.find(prompt_set, name, metric) for name in results.methods)
    return any(cell is not None and cell.value is not None for cell in cells)


def _value(results: Results, prompt_set: str, name: str) -> float:
    cell = results.find(prompt_set, name, IDENTITY, results.recognizer.name)
    return -1.0 if cell is None or cell.value is None else cell.value


def _of_what(results: Results) -> str:
    """The sentence below the summary: people, photos, images, recognizer, time."""
    images = [
        f"{pluralize(results.prompt_sets[name].images, 'image')} of each in prompt set {name}"
        for name in results.scored
        if name in results.prompt_sets
    ]
    split = results.settings.get("split", "")
    people = pluralize(len(results.people), f"{split} person", f"{split} people")
    said = [f"{people}, {condition_text(results.main)}", *images]
    said.append(f"recognizer: {_cell(short(results.recognizer.name))}")
    cost = sum(_seconds(results, each) for each in results.costs) / 3600
    hours = f" All methods, people and images took {cost:.1f} hours by the medians above." if cost else ""
    return f"{'; '.join(said)}. Brackets: 95 % intervals over people.{hours}"


def _seconds(results: Results, cost: Cost) -> float:
    """What a method took for all people and images."""
    drawn = [
        prompt_set.images
        for name, prompt_set in results.prompt_sets.items()
        if results.find(name, cost.method, IDENTITY, results.recognizer.name)
    ]
    return len(results.people) * ((cost.seconds_per_person or 0.0) + (cost.seconds_per_image or 0.0) * sum(drawn))


def _why_none(results: Results, prompt_set: str, metrics: Sequence[str]) -> str:
    """One sentence in place of a table in which every cell says the same: why nothing was measured. Else nothing."""
    cells = [results.find(prompt_set, name, metric, results.recognizer.name) for name in results.names for metric in metrics]
    reasons = {cell.unavailable for cell in cells if cell is not None and cell.value is None}
    if len(reasons) != 1 or any(cell is not None and cell.value is not None for cell in cells):
        return ""
    return f"{', '.join(map(label, metrics))}: {_cell(reasons.pop() or 'not measured')}.\n"


def _table(results: Results, prompt_set: str, metrics: Sequence[str]) -> str:
    lines = [_line(["", *map(heading, metrics)]), "| --- |" + " ---: |" * len(metrics)]
    for name in (*results.methods, *results.controls):
        cells = [results.find(prompt_set, name, metric, results.recognizer.name) for metric in metrics]
        if any(cells):  # a prompt set may be for some methods alone
            lines.append(_line([_row_name(results, name), *map(_score, cells)]))
    return "\n".join(lines) + "\n"


def _line(cells: Collection[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row_name(results: Results, name: str) -> str:
    return f"*{_cell(name)}*" if name in results.controls else f"`{_cell(name)}`"


def _score(cell: Result | None, *, ends: bool = True) -> str:
    """A cell's text. ends: of its interval too."""
    if cell is None:
        return "-"
    if cell.value is None:
        return _cell(cell.unavailable or "not measured")
    places = decimals(cell.metric)
    return _span(cell, places) if ends else f"{cell.value:.{places}f}"


def _span(cell: Result | Difference, places: int) -> str:
    """The value, and its interval where it has one."""
    known = cell.low is not None and cell.high is not None
    return f"{cell.value:.{places}f}" + (f" [{cell.low:.{places}f}, {cell.high:.{places}f}]" if known else "")


def _cell(text: str) -> str:
    """A text that cannot leave its cell, and in which a browser finds no element."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return plain.replace("<", "&lt;") if "<" in plain else plain
