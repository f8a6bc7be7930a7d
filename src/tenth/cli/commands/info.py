"""What there is, and whether it works here: `tenth methods`, `metrics`, `doctor`, `cache`, and `verify` of pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tenth.cli.parameters import Json, Pictures
from tenth.core.console import print_message, print_records, print_result
from tenth.core.errors import DataError
from tenth.core.wording import format_bytes, pluralize, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

# Of several files, the first of these that is found. 1 and 2 are the command line's own: a bad file, wrong usage.
EXIT_CODES = {"unreadable": 1, "changed": 3, "stripped": 4, "foreign": 5}


def methods(json: Json = False) -> int:
    """List the ways to turn photos into an identity."""
    from tenth.methods.registry import COMBINATIONS, DEFAULT_METHOD, METHODS

    table = {**METHODS, **COMBINATIONS}
    rows = [{"name": name, "text": entry.description, "default": name == DEFAULT_METHOD} for name, entry in table.items()]
    print_records("methods", rows, lambda row: f"{row['text']}{' (default)' if row['default'] else ''}", json)
    return 0


def metrics(json: Json = False) -> int:
    """List what is measured on generated images, with an arrow towards what is better."""
    from tenth.evaluation.registry import METRICS

    keys = ("name", "label", "text", "higher_is_better", "needs")
    rows = [{key: getattr(row, key) for key in keys} for row in METRICS.values()]
    print_records(
        "metrics", rows, lambda row: f"{METRICS[row['name']].arrow} {row['text']} (needs {', '.join(row['needs'])})", json
    )
    return 0


def doctor(json: Json = False) -> int:
    """Check what works on this machine, and say what to do about the rest. Exits with 1 if the main job cannot work."""
    from tenth.cli.commands.doctor import is_working, results_to_json, results_to_table, run_checks

    findings = run_checks()
    print_result(results_to_json(findings) if json else results_to_table(findings))
    return 0 if is_working(findings) else 1


def cache(context: typer.Context, json: Json = False) -> int:
    """Show how much the cache holds of what. What was not used for longest goes when it is larger than $TENTH_CACHE_LIMIT.

    The default is 20GB. Nothing in it is needed: what is missing is computed again. Models are not part of it: `tenth models`.
    """
    if context.invoked_subcommand is not None:
        if json:
            raise typer.BadParameter(f"give it after `{context.invoked_subcommand}`", param_hint="--json")
        return 0
    from tenth.core.cache import default_cache_dir
    from tenth.core.cache_contents import cache_limit, cache_sizes

    limit, sizes = cache_limit(), cache_sizes(default_cache_dir())
    total = sum(size.bytes for size in sizes)
    if json:
        rows = [vars(size) for size in sizes]
        print_result({"directory": str(default_cache_dir()), "bytes": total, "limit": limit, "namespaces": rows})
    elif sizes:
        print_records("namespaces", [vars(size) for size in sizes], _describe_size, False)
    print_message(f"{format_bytes(total)} of {format_bytes(limit)} in {default_cache_dir()}")
    return 0


def _describe_size(size: Mapping[str, Any]) -> str:
    return f"{format_bytes(size['bytes']):>9}  {pluralize(size['entries'], 'entry', 'entries')}"


def clear(json: Json = False) -> int:
    """Remove everything from the cache but what a running command has in use. Models and saved people stay."""
    from tenth.core.cache import default_cache_dir
    from tenth.core.cache_contents import clear_cache

    entries, size = clear_cache(default_cache_dir())
    text = f"removed {pluralize(entries, 'entry', 'entries')}, {format_bytes(size)}"
    print_result({"removed": {"entries": entries, "bytes": size}} if json else text)
    return 0


def verify(files: Pictures, json: Json = False) -> int:
    """Check the marks by which pictures say that a model made them.

    marked: tenth made it, and it is as it was written. changed: edited, cut off or written anew since. stripped: its signed
    manifest is gone, but not all of tenth's marks. foreign: nothing of tenth's is in it. Exits with 0 if all are marked, 1 if
    a file cannot be read, 3 if one is changed, 4 if one is stripped, 5 if one is foreign: the first of these that is so.
    """
    from tenth.core.marks.verify import verify as read_mark

    rows = []
    for path in files:
        row = {"name": printable(str(path)), "own_key": False}
        try:
            mark = read_mark(path)
        except DataError as problem:
            rows.append(row | {"mark": "unreadable", "text": str(problem)})
            print_message(f"tenth: {problem}")
        else:
            rows.append(row | {"mark": mark.state.value, "text": mark.text, "own_key": mark.own_key})
    readable = [row for row in rows if row["mark"] != "unreadable"]
    if readable or json:
        print_records("files", rows if json else readable, lambda row: f"{row['mark']}: {row['text']}", json)
    found = {row["mark"] for row in rows}
    return next((code for mark, code in EXIT_CODES.items() if mark in found), 0)
