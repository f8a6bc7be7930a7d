"""Command lines as the program reads them, without running them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tenth.cli.app import build_command


def parse(words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """('tenth data lfw', its parameters by name). Raises typer.TyperException for wrong usage."""
    name, command, parent = "tenth", build_command(), None
    rest = list(words)
    while True:
        context = command.make_context(name, rest, parent=parent)
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not rest:
            return context.command_path, context.params
        name, command, rest = command.resolve_command(context, rest)
        parent = context


def every_command() -> Iterator[tuple[str, Any]]:
    """('data lfw', its command), also ('', `tenth` itself) and ('data', the group)."""

    def walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield path, command
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(f"{path} {name}".strip(), child)

    return walk("", build_command())


def top_commands() -> set[str]:
    """'data', 'demo', ..."""
    return set(build_command().commands)
