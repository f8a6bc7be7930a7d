"""A record as Markdown: all of its main tables, for table.md, or one table of methods, for a README; each with the finding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tenth.core.wording import pluralize
from tenth.reporting.claims import finding, notes, ranking
from tenth.reporting.frontier.record import read_frontier
from tenth.reporting.frontier.tables import areas_table, points_table
from tenth.reporting.metric_columns import condition_text, heading, interval, number, short
from tenth.reporting.recognizer_tables import agreement_lines, recognizers_table
from tenth.reporting.results_reader import CONTROLS, IDENTITY, Cost, Results, read_results
from tenth.reporting.tables import all_measured_on, measured_on, on, reason_lines, score_cell, score_tables, unavailable

# The summary's further columns: without intervals, which would make it too wide.
BESIDE = ("copy-paste-index", "identity-diversity", "face-frechet-distance")
ATTRIBUTES = "attribute-accuracy"


def markdown(record: Mapping[str, Any]) -> str:
    """For each prompt set the finding and a table for each question, at the main condition, by the evaluation recognizer.

    Raises DataError if the record is not one of `tenth experiment`.
    """
    results = read_results(record)
    parts = [f"> {results.disclaimer}\n"] if results.disclaimer else []
    for prompt_set in results.scored:
        title = f"{on(prompt_set)}, {condition_text(results.main)}".removeprefix(", ")
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        parts += [f"{said}\n" for said in _sentences(results, prompt_set)]
        several = [table] if (table := recognizers_table(results, prompt_set)) else []
        for table in (*score_tables(results, prompt_set, results.recognizer.name), *several):
            rows = [(name, [cell.with_interval for cell in row]) for body in table.bodies for name, row in body]
            shown = [_table(results, table.heads, rows)] if table.heads else []
            parts.append("\n\n".join([f"### {table.title}", *shown, *map(_plain, table.left_out)]) + "\n")
        parts += [f"{_plain(line)}\n" for line in agreement_lines(results, prompt_set)]
    frontier = read_frontier(record, results)
    if frontier is not None and frontier.methods:
        parts.append("## The prompt against the person\n")
        for table in (areas_table(frontier), points_table(frontier)):
            rows = [
                (name, [" ".join([cell.with_interval, *cell.notes]) for cell in row])
                for body in table.bodies
                for name, row in body
            ]
            parts.append(
                f"### {table.title}\n\n{_table(results, [*map(_plain, table.heads)], rows)}\n\n{_plain(table.note)}.\n"
            )
    recognizer = f" Recognizer: {_plain(results.recognizer.name)}." if results.recognizer.name else ""
    model = f" Measured on: {_plain(all_measured_on(results))}." if all_measured_on(results) else ""
    return "\n".join([*parts, f"Brackets: 95 % intervals over people.{recognizer}{model}"]) + "\n"


def summary(record: Mapping[str, Any]) -> str:
    """One table: a line for each method and control, the highest similarity first; below it what it is of, and the finding.

    Raises DataError if the record is not one of `tenth experiment`.
    """
    results = read_results(record)
    first, *others = results.scored
    costs = {cost.method: cost for cost in results.costs}
    prompted = [where for where in others if any(results.measured(where, name, ATTRIBUTES) for name in results.methods)]
    heads = [heading(IDENTITY), heading("impostor-similarity"), f"Δ vs `{_plain(results.baseline)}`", *map(heading, BESIDE)]
    heads += [f"{heading(ATTRIBUTES)} (prompt set {where})" for where in prompted]
    heads += ["seconds per person", "seconds per image"] if costs else []

    # A row for each method, then for each control.
    rows = []
    ranked = ranking(results, first)
    names = [*ranked, *(name for name in results.methods if name not in ranked), *results.controls]
    for name in names:
        difference = results.difference(first, name, results.baseline)
        cells = [score_cell(results.find(first, name)).with_interval]
        cells.append(score_cell(results.find(first, name, "impostor-similarity")).text)
        cells.append(f"{number(difference.value, 3)} {interval(difference.low, difference.high, 3)}" if difference else "")
        cells += [score_cell(results.find(first, name, metric)).text for metric in BESIDE]
        cells += [score_cell(results.find(where, name, ATTRIBUTES)).text for where in prompted]
        cost = costs.get(name, Cost(name))
        spent = (cost.seconds_per_person, cost.seconds_per_image) if costs else ()
        cells += ["" if seconds is None else f"{seconds:.3g}" for seconds in spent]
        rows.append((name, cells))
    columns = {metric: {name: results.find(first, name, metric) for name in names} for metric in (IDENTITY, *BESIDE)}
    reasons = map(_plain, reason_lines([unavailable(columns)]))
    return "\n\n".join([_table(results, heads, rows), *reasons, _of_what(results), *_sentences(results, first)]) + "\n"


def _sentences(results: Results, prompt_set: str) -> list[str]:
    """The finding and what must be known with it: a paragraph, or nothing."""
    said = " ".join((*finding(results, prompt_set), *notes(results, prompt_set)))
    return [_plain(said, code=True)] if said else []


def _of_what(results: Results) -> str:
    """The sentence below the summary: people, photos, images, recognizer, time."""
    split = results.settings.get("split", "")
    of_split = "" if split in ("", "all") else f"{split} "
    facts = [f"{pluralize(len(results.people), f'{of_split}person', f'{of_split}people')}, {condition_text(results.main)}"]
    images = {name: results.prompt_sets[name].images for name in results.scored if name in results.prompt_sets}
    facts += [f"{pluralize(count, 'image')} of each in prompt set {name}" for name, count in images.items()]
    facts.append(f"recognizer: {_plain(short(results.recognizer.name))}")

    # Of each method, its identities and images of all people, by the medians.
    seconds = 0.0
    for cost in results.costs:
        count = sum(images for name, images in images.items() if results.find(name, cost.method))
        seconds += len(results.people) * ((cost.seconds_per_person or 0.0) + (cost.seconds_per_image or 0.0) * count)
    hours = f" All methods, people and images took {seconds / 3600:.1f} hours by the medians above." if seconds else ""
    return f"{'; '.join(facts)}. Brackets: 95 % intervals over people.{hours}"


def _table(results: Results, heads: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """The first column without a head; methods as code, with their model and size where these differ; controls in italics."""
    lines = [["", *heads], ["---", *["---:"] * len(heads)]]
    for name, cells in rows:
        on_what = "" if name in CONTROLS or all_measured_on(results) else _plain(measured_on(results, name))
        shown = f"*{_plain(name)}*" if name in CONTROLS else f"`{_plain(name)}`{f' ({on_what})' if on_what else ''}"
        lines.append([shown, *map(_plain, cells)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str, *, code: bool = False) -> str:
    """A text that cannot leave its cell, and in which a browser finds no element. code: it has code of ours."""
    plain = " ".join(text.split()).replace("|", "\\|")
    plain = plain if code else plain.replace("`", "'")
    return re.sub("<(?! )", "&lt;", plain)
