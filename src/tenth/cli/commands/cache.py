"""`tenth cache`: what is kept so that it is not computed again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tenth.cli import parameters
from tenth.core.console import print_message, print_records, print_result
from tenth.core.wording import format_bytes, pluralize

if TYPE_CHECKING:
    from collections.abc import Mapping


def cache(context: typer.Context, json: parameters.Json = False) -> int:
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


def clear(json: parameters.Json = False) -> int:
    """Remove everything from the cache but what a running command has in use. Models and saved people stay."""
    from tenth.core.cache import default_cache_dir
    from tenth.core.cache_contents import clear_cache

    entries, size = clear_cache(default_cache_dir())
    text = f"removed {pluralize(entries, 'entry', 'entries')}, {format_bytes(size)}"
    print_result({"removed": {"entries": entries, "bytes": size}} if json else text)
    return 0
