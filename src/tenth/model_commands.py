"""`tenth models`: which models there are and which are here; and the one command that downloads."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tenth.terminal import progress_bar, say, show


def models(args: Namespace) -> int:
    """The table of models, or one downloaded, whose folder goes to stdout."""
    if args.update and not args.download:
        args.usage_error("--update goes with --download")
    if args.download:
        return _download(args)
    rows = list(_rows())
    if args.json:
        show({"models": rows})
        return 0
    width = max(len(row["name"]) for row in rows)
    show("\n".join(f"{row['name']:<{width}}  {_line(row)}" for row in rows))
    return 0


def _download(args: Namespace) -> int:
    from tenth.download import Told, download
    from tenth.errors import unknown_name
    from tenth.published import PUBLISHED, source_of

    source = source_of(args.download)
    if source is None:
        raise unknown_name("model", args.download, [*PUBLISHED, "owner/name of a repository on the hub"])
    with progress_bar(args.download, unit="B") as progress:
        folder = download(source, Told(say, progress), update=args.update)
    if args.json:
        show(next(row for row in _rows() if row["name"] == args.download))
    else:
        show(folder)
    return 0


def _rows() -> Iterator[dict[str, Any]]:
    """Every model of the catalog, then those of the hub that are locked besides."""
    from tenth.catalog import DEFAULT_MODEL, MODELS
    from tenth.litter import without_litter
    from tenth.locked import folder_name, models_folder, read_lock
    from tenth.pocket.pack import CONFIGS
    from tenth.published import IP_ADAPTER_LICENCE, PUBLISHED

    here, locks = models_folder(), read_lock(models_folder())
    for name in [*MODELS, *(name for name in locks if name not in MODELS)]:
        text = MODELS[name].text if name in MODELS else "from the hub"
        row = {"name": name, "text": text, "default": name == DEFAULT_MODEL}
        if name == DEFAULT_MODEL:
            size = sum(path.stat().st_size for path in without_litter(CONFIGS, CONFIGS.rglob("*")) if path.is_file())
            yield row | {"downloaded": True, "where": str(CONFIGS), "bytes": size, "licences": {}, "revisions": {}}
            continue
        locked, folder = locks.get(name), here / folder_name(name)
        whole = locked is not None and all((folder / path).is_file() for path in locked.files)
        licences = {PUBLISHED[name].repository: PUBLISHED[name].licence} | IP_ADAPTER_LICENCE if name in PUBLISHED else {}
        yield row | {
            "downloaded": whole,
            "where": str(folder) if whole else None,
            "bytes": locked.bytes if locked else None,
            "licences": {each: origin.licence for each, origin in locked.repositories.items()} if locked else licences,
            "revisions": {each: origin.revision for each, origin in locked.repositories.items()} if locked else {},
        }


def _line(row: dict[str, Any]) -> str:
    if row["default"]:
        return f"{row['text']} (default)"
    licences = ", ".join(f"{name}: {licence}" for name, licence in row["licences"].items())
    if row["downloaded"]:
        return f"{row['text']}; {row['bytes'] / 1e9:.2f} GB in {Path(row['where'])}; {licences}"
    return f"{row['text']}; not here: `tenth models --download {row['name']}`; {licences}"
