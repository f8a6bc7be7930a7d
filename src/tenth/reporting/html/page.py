"""run.json -> one HTML file that needs nothing else: no script, no network, no other file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tenth.core.errors import CheckpointError
from tenth.core.files.reading import UnreadableError, open_regular
from tenth.core.files.writing import write_text
from tenth.core.run_record import read_record
from tenth.core.wording import pluralize
from tenth.reporting.html import gallery, summary, tables
from tenth.reporting.html.reproduce import reproduce
from tenth.reporting.metric_columns import condition_text, number, short, unmeasured
from tenth.reporting.plot_style import can_plot
from tenth.reporting.plots import has_curve, scatter, small_multiples
from tenth.reporting.results_reader import IDENTITY, Results, read_results

PAGE = "report.html"
SIGN = '<meta name="generator" content="tenth">'  # by which a page is known as ours, and may be replaced


def write_page(record: Path, output: Path | None = None) -> Path:
    """Write the page of a record, a run.json or its folder, to `output`, else beside it. Returns where.

    Raises DataError if it is no record of an experiment, CheckpointError if `output` is there and no page of tenth's.
    """
    folder = record if record.is_dir() else record.parent
    text = page(read_record(record, command="experiment"), folder)
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
    plotted = results.scored if can_plot() else ()
    pairs = {prompt_set: tables.pairs_table(results, prompt_set) for prompt_set in results.scored}
    curves = {prompt_set: small_multiples(results, prompt_set) for prompt_set in plotted}
    scatters = {prompt_set: scatter(results, prompt_set) for prompt_set in plotted}
    return (
        _environment()
        .get_template("page.html.j2")
        .render(
            results=results,
            facts=_facts(results),
            unmeasured=unmeasured(results),
            findings=summary.findings(results),
            scales={
                prompt_set: scale
                for prompt_set in results.scored
                if (scale := summary.scale_of(results, prompt_set)) is not None
            },
            people=max((each.n for each in results.scores if each.metric == IDENTITY), default=0) or len(results.people),
            differences={prompt_set: table for prompt_set, table in pairs.items() if table},
            can_plot=can_plot(),
            curved=[prompt_set for prompt_set in results.scored if has_curve(results, prompt_set)],
            curves={prompt_set: plots for prompt_set, plots in curves.items() if plots},
            scatters={prompt_set: plots for prompt_set, plots in scatters.items() if plots},
            sheets=gallery.sheets(results, folder),
            reproduce=reproduce(results),
        )
    )


@cache
def _environment() -> Environment:
    """Templates in which all text is escaped, so that nothing in a record can become part of the page's code."""
    environment = Environment(
        loader=PackageLoader("tenth.reporting.html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"short": short, "number": number, "condition": condition_text, "counted": pluralize}
    environment.globals |= {"tables": tables, "gallery": gallery}
    return environment


def _facts(results: Results) -> dict[str, str]:
    """What the numbers were measured on."""
    settings = results.settings
    split = f" of the {settings['split']} split" if "split" in settings else ""
    facts = {
        "people": f"{len(results.people)}{split}",
        "photos given": "; ".join(map(condition_text, results.conditions)),
        "model": settings.get("model_weights") or settings.get("model"),
        "recognizer": results.recognizer.name,
        "written": results.written[:10],
    }
    return {name: str(value) for name, value in facts.items() if value}
