"""`tenth methods`, `tenth metrics` and `tenth doctor`: what there is, and whether it works here."""

from __future__ import annotations

from tenth.cli.parameters import Json
from tenth.core.console import print_records, print_result


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
