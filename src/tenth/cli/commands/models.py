"""`tenth models`: which models there are and which are here; and the commands that download."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tenth.cli.parameters import Json, PublishedModel
from tenth.core.console import print_message, print_records, print_result, progress_bar

if TYPE_CHECKING:
    from tenth.models.hub.lockfile import LockedModel


def models(context: typer.Context, json: Json = False) -> int:
    """List the diffusion models and which of them are here; download the others.

    No model comes but by `download`. See docs/models.md.
    """
    if context.invoked_subcommand is None:
        return models_list(json)
    if json:
        raise typer.BadParameter(f"give it after `{context.invoked_subcommand}`", param_hint="--json")
    return 0


def models_list(json: Json = False) -> int:
    """The same list as without a command: which models there are, and which of them are here."""
    print_records("models", list(_model_records()), _format_model, json)
    return 0


def download(name: PublishedModel, json: Json = False) -> int:
    """Get a model, and lock its revision and bytes in models.lock.

    NAME is one of the list, owner/name of a repository of one of these families on the hub, or one of these with +ADAPTER,
    another published IP-Adapter. A download that was stopped goes on when it is run again; a finished one compares every byte.
    """
    return _download(name, update=False, as_json=json)


def update(name: PublishedModel, json: Json = False) -> int:
    """Get what the hub has now of a model, and lock that instead."""
    return _download(name, update=True, as_json=json)


def _download(name: str, *, update: bool, as_json: bool) -> int:
    """Get a model; its folder, or its record, goes to stdout."""
    from tenth.core.errors import unknown_name
    from tenth.models.hub.download import DownloadCallbacks, download
    from tenth.models.hub.published import PUBLISHED, parse_model_name

    source = parse_model_name(name)
    if source is None:
        raise unknown_name("model", name, [*PUBLISHED, "owner/name of a repository on the hub"])
    with progress_bar(name, unit="B") as progress:
        folder = download(source, DownloadCallbacks(print_message, progress), update=update)
    print_result(next(record for record in _model_records() if record["name"] == name) if as_json else folder)
    return 0


def _model_records() -> Iterator[dict[str, Any]]:
    """Every model of the registry, then those of the hub that are locked besides."""
    from tenth.core.files.reading import without_system_files
    from tenth.models.hub.lockfile import models_dir, read_lock
    from tenth.models.pocket.paths import MODEL_DIR
    from tenth.models.registry import DEFAULT_MODEL, MODELS

    # The model in the package, which is always here.
    num_bytes = sum(path.stat().st_size for path in without_system_files(MODEL_DIR, MODEL_DIR.rglob("*")) if path.is_file())
    record = {"name": DEFAULT_MODEL, "text": MODELS[DEFAULT_MODEL].description, "default": True, "downloaded": True}
    yield record | {"where": str(MODEL_DIR), "bytes": num_bytes, "download_bytes": 0, "licences": {}, "revisions": {}}

    # Those of the hub.
    locks = read_lock(models_dir())
    for name in dict.fromkeys([*MODELS, *locks]):
        if name != DEFAULT_MODEL:
            yield _hub_record(name, MODELS[name].description if name in MODELS else "from the hub", locks.get(name))


def _hub_record(name: str, text: str, locked: LockedModel | None) -> dict[str, Any]:
    """A model of the hub. locked: what models.lock holds of it."""
    from tenth.models.hub.lockfile import folder_name, models_dir
    from tenth.models.hub.published import IP_ADAPTER_LICENCE, PUBLISHED, UNETS

    # What is known of a model that is not here: the licences under which it is published.
    row = PUBLISHED.get(name)
    record: dict[str, Any] = {"name": name, "text": text, "default": False, "downloaded": False, "where": None, "bytes": None}
    record["download_bytes"] = round(row.gigabytes * 1e9) if row else None  # about
    if locked is None:
        licences = {} if row is None else {row.repository: row.licence} | (IP_ADAPTER_LICENCE if name in UNETS else {})
        return record | {"licences": licences, "revisions": {}}

    # What the lock says, and whether all of its files are here.
    folder = models_dir() / folder_name(name)
    record["bytes"] = locked.bytes
    if all((folder / path).is_file() for path in locked.files):
        record |= {"downloaded": True, "where": str(folder)}
    record["licences"] = {repository: origin.licence for repository, origin in locked.repositories.items()}
    record["revisions"] = {repository: origin.revision for repository, origin in locked.repositories.items()}
    return record


def _format_model(record: Mapping[str, Any]) -> str:
    if record["default"]:
        return f"{record['text']} (default)"
    # A model of one's own, a row of the registry alone, has no licence that is known and comes from nowhere.
    licences = ", ".join(f"{repository}: {licence}" for repository, licence in record["licences"].items())
    if record["downloaded"]:
        where = f"{record['bytes'] / 1e9:.2f} GB in {Path(record['where'])}"
    elif not licences:
        where = ""
    else:
        size = f" ({record['download_bytes'] / 1e9:.3g} GB)" if record["download_bytes"] else ""
        where = f"not here: `tenth models download {record['name']}`{size}"
    return "; ".join(filter(None, (record["text"], where, licences)))
