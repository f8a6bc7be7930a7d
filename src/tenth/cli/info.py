"""`tenth models`: which models there are and which are here; and the one command that downloads."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.console import print_message, print_result, progress_bar

if TYPE_CHECKING:
    from tenth.core.types import Entry


def models(args: Namespace) -> int:
    """The table of models, or one downloaded, whose folder goes to stdout."""
    if args.update and not args.download:
        args.usage_error("--update goes with --download")
    if args.download:
        return _download(args)
    rows = list(_model_records())
    if args.json:
        print_result({"models": rows})
        return 0
    width = max(len(row["name"]) for row in rows)
    print_result("\n".join(f"{row['name']:<{width}}  {_format_model(row)}" for row in rows))
    return 0


def _download(args: Namespace) -> int:
    from tenth.core.errors import unknown_name
    from tenth.models.hub.download import DownloadCallbacks, download
    from tenth.models.hub.published import PUBLISHED, parse_model_name

    source = parse_model_name(args.download)
    if source is None:
        raise unknown_name("model", args.download, [*PUBLISHED, "owner/name of a repository on the hub"])
    with progress_bar(args.download, unit="B") as progress:
        folder = download(source, DownloadCallbacks(print_message, progress), update=args.update)
    if args.json:
        print_result(next(row for row in _model_records() if row["name"] == args.download))
    else:
        print_result(folder)
    return 0


def _model_records() -> Iterator[dict[str, Any]]:
    """Every model of the catalog, then those of the hub that are locked besides."""
    from tenth.core.files.reading import without_system_files
    from tenth.models.hub.lockfile import folder_name, models_dir, read_lock
    from tenth.models.hub.published import IP_ADAPTER_LICENCE, PUBLISHED
    from tenth.models.pocket.paths import MODEL_DIR
    from tenth.models.registry import DEFAULT_MODEL, MODELS

    root, locks = models_dir(), read_lock(models_dir())
    for name in [*MODELS, *(name for name in locks if name not in MODELS)]:
        text = MODELS[name].description if name in MODELS else "from the hub"
        row = {"name": name, "text": text, "default": name == DEFAULT_MODEL}
        if name == DEFAULT_MODEL:
            size = sum(path.stat().st_size for path in without_system_files(MODEL_DIR, MODEL_DIR.rglob("*")) if path.is_file())
            yield row | {"downloaded": True, "where": str(MODEL_DIR), "bytes": size, "licences": {}, "revisions": {}}
            continue
        locked, folder = locks.get(name), root / folder_name(name)
        whole = locked is not None and all((folder / path).is_file() for path in locked.files)
        licences = {PUBLISHED[name].repository: PUBLISHED[name].licence} | IP_ADAPTER_LICENCE if name in PUBLISHED else {}
        yield row | {
            "downloaded": whole,
            "where": str(folder) if whole else None,
            "bytes": locked.bytes if locked else None,
            "licences": {each: origin.licence for each, origin in locked.repositories.items()} if locked else licences,
            "revisions": {each: origin.revision for each, origin in locked.repositories.items()} if locked else {},
        }


def _format_model(row: dict[str, Any]) -> str:
    if row["default"]:
        return f"{row['text']} (default)"
    licences = ", ".join(f"{name}: {licence}" for name, licence in row["licences"].items())
    if row["downloaded"]:
        return f"{row['text']}; {row['bytes'] / 1e9:.2f} GB in {Path(row['where'])}; {licences}"
    return f"{row['text']}; not here: `tenth models --download {row['name']}`; {licences}"


def methods(args: Namespace) -> int:
    """The table of methods."""
    from tenth.methods.registry import COMBINATIONS, DEFAULT_METHOD, METHODS

    return _print_table(args, "methods", {**METHODS, **COMBINATIONS}, DEFAULT_METHOD)


def metrics(args: Namespace) -> int:
    """The table of metrics, with an arrow towards what is better."""
    from tenth.evaluation.registry import METRICS

    if args.json:
        told = ("name", "label", "text", "higher_is_better", "needs")
        print_result({"metrics": [{key: getattr(row, key) for key in told} for row in METRICS.values()]})
        return 0
    width = max(map(len, METRICS))
    print_result(
        "\n".join(f"{name:<{width}}  {row.arrow} {row.text} (needs {', '.join(row.needs)})" for name, row in METRICS.items())
    )
    return 0


def doctor(args: Namespace) -> int:
    """What works here. 1 if the main job cannot."""
    from tenth.cli.doctor import is_working, results_to_json, results_to_table, run_checks

    findings = run_checks()
    print_result(results_to_json(findings) if args.json else results_to_table(findings))
    return 0 if is_working(findings) else 1


def _print_table(args: Namespace, key: str, table: Mapping[str, Entry[Any]], default: str = "") -> int:
    if args.json:
        print_result(
            {key: [{"name": name, "text": entry.description, "default": name == default} for name, entry in table.items()]}
        )
        return 0
    width = max(map(len, table))
    rows = [f"{name:<{width}}  {entry.description}{' (default)' if name == default else ''}" for name, entry in table.items()]
    print_result("\n".join(rows))
    return 0
