"""run.json -> one HTML file that needs nothing else: no network, no other file, and no script but the one that sorts."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tenth.core.errors import CheckpointError
from tenth.core.files.reading import UnreadableError, open_regular
from tenth.core.files.writing import write_text
from tenth.core.run_record import read_record
from tenth.core.wording import pluralize
from tenth.reporting import claims, tables
from tenth.reporting.csv_tables import DIFFERENCES_FILE, SCORES_FILE, differences_csv, scores_csv
from tenth.reporting.frontier import tables as frontier_tables
from tenth.reporting.frontier.plot import frontier_plots
from tenth.reporting.frontier.record import read_frontier
from tenth.reporting.html import gallery
from tenth.reporting.html.overview import overview
from tenth.reporting.html.reproduce import reproduce
from tenth.reporting.metric_columns import condition_text, number, short
from tenth.reporting.plot_style import can_plot
from tenth.reporting.plots import has_curve, scatter, small_multiples
from tenth.reporting.recognizer_tables import agreement_lines, recognizers_table
from tenth.reporting.results_reader import IDENTITY, KINDS, Results, read_results

PAGE = "report.html"
SIGN = '<meta name="generator" content="tenth">'  # by which a page is known as ours, and may be replaced


def write_page(record: Path, output: Path | None = None) -> Path:
    """Write the page of a record, a run.json or its folder, to `output`, else beside it. Returns where.

    Raises DataError if it is no record of an experiment, CheckpointError if `output` is there and no page of tenth's.
    """
    folder = record if record.is_dir() else record.parent
    text = page(read_record(record, command=KINDS), folder)
    target = output or folder / PAGE
    if target.exists() and not _is_ours(target):
        raise CheckpointError(f"{target} exists and is no page of tenth's", "a new file is needed", "Choose another -o")
    write_text(target, text)
    return target


def _is_ours(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return SIGN.encode() in file.read(2000)
    except (OSError, UnreadableError):
        return False


def page(record: Mapping[str, Any], folder: Path) -> str:
    """The page of a record. folder: where its images are, if they are there. Raises DataError as `read_results` does."""
    results = read_results(record)
    frontier = read_frontier(record, results)
    plotted = results.scored if can_plot() else ()
    by_prompt_set: dict[str, dict[str, Any]] = {
        "score_tables": {name: tables.score_tables(results, name, results.recognizer.name) for name in results.scored},
        "recognizer_tables": {name: recognizers_table(results, name) for name in results.scored},
        "overviews": {name: overview(results, name) for name in results.scored},
        "differences": {name: tables.pairs_table(results, name) for name in results.scored},
        "curves": {name: small_multiples(results, name) for name in plotted},
        "scatters": {name: scatter(results, name) for name in plotted},
    }
    known = {key: {name: part for name, part in parts.items() if part} for key, parts in by_prompt_set.items()}
    sheets, script = gallery.sheets(results, folder), _environment().get_template("sort.js").render()
    measured_on = tables.all_measured_on(results)
    systems = {} if measured_on else {name: tables.measured_on(results, name) for name in results.methods}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            **known,
            results=results,
            facts=_facts(results, [table for found in by_prompt_set["score_tables"].values() for table in found]),
            measured_on=measured_on,
            systems={name: text for name, text in systems.items() if text},
            findings={name: claims.finding(results, name) for name in results.scored},
            notes={name: claims.notes(results, name) for name in results.scored},
            agreement={name: agreement_lines(results, name) for name in results.scored},
            people=max((score.n for score in results.scores if score.metric == IDENTITY), default=0) or len(results.people),
            can_plot=can_plot(),
            frontier=frontier,
            frontier_plots=frontier_plots(results, frontier) if frontier and can_plot() else [],
            curved=[name for name in results.scored if has_curve(results, name)],
            sheets=sheets,
            contact_names=gallery.contact_names(results, sheets),
            reproduce=reproduce(results),
            csv={SCORES_FILE: _encoded(scores_csv(results)), DIFFERENCES_FILE: _encoded(differences_csv(results))},
            script=script,
            script_hash=f"sha256-{b64encode(sha256(script.encode()).digest()).decode()}",
        )
    )


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


@cache
def _environment() -> Environment:
    """Templates in which all text is escaped, so that nothing in a record can become part of the page's code."""
    loader = PackageLoader("tenth.reporting.html")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"short": short, "number": number, "condition": condition_text, "counted": pluralize}
    environment.globals |= {"tables": tables, "frontier_tables": frontier_tables, "gallery": gallery}
    return environment


def _facts(results: Results, score_tables: Sequence[tables.Table]) -> dict[str, Sequence[str]]:
    """What the numbers were measured on, and what was not measured."""
    settings = results.settings
    split = f" of the {settings['split']} split" if settings.get("split", "all") != "all" else ""
    not_measured = tables.reason_lines(table.unavailable for table in score_tables)
    facts = {
        "people": [f"{len(results.people)}{split}"],
        "photos given": ["; ".join(map(condition_text, results.conditions))],
        "model": [str(settings.get("model_weights") or settings.get("model") or "")],
        "recognizer": [results.recognizer.name],
        "not measured": not_measured,
        "written": [results.written[:10]],
    }
    return {name: parts for name, parts in facts.items() if any(parts)}
