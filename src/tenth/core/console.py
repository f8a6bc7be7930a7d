"""Output of commands: results to stdout, all else to stderr, without control characters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tqdm import tqdm

from tenth.core.wording import printable

T = TypeVar("T")


def allow_any_text() -> None:
    """Make stdout and stderr accept any text: characters that they cannot encode are escaped.

    A closed stream is replaced by the null device; else the next file that is opened would get its output.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Give up a stdout that accepts no more: its buffer must not raise again when Python exits."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar(description: str, unit: str = "step") -> Iterator[Callable[..., None]]:
    """Yield update(done, total, note=""), which shows a bar on stderr. unit: "B" for bytes."""
    bar: Any = None

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, desc=description, unit=unit, unit_scale=unit == "B", file=sys.stderr, mininterval=0.5)
        if note:
            bar.set_postfix_str(note, refresh=False)
        bar.update(done - bar.n)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()


def print_message(*lines: str) -> None:
    """Lines for the user, on stderr."""
    for line in lines:
        print(printable(line), file=sys.stderr)


def print_result(result: Any) -> None:
    """A result on stdout, at once also where that is a file or a pipe: a mapping as JSON, anything else as text."""
    print(json.dumps(result, indent=1) if isinstance(result, Mapping) else result, flush=True)


def print_records(
    name: str, records: Sequence[Mapping[str, Any]], describe: Callable[[Mapping[str, Any]], str], as_json: bool
) -> None:
    """Records on stdout, under their common name as JSON, else a line for each: its "name" and what describes it."""
    width = max((len(record["name"]) for record in records), default=0)
    lines = (f"{record['name']:<{width}}  {describe(record)}" for record in records)
    print_result({name: records} if as_json else "\n".join(lines))


def track(items: Iterable[T], description: str, unit: str) -> Iterator[T]:
    """The items, with a bar on stderr if they take longer than two seconds; of items without a number, with a count."""
    form = None if isinstance(items, Sized) else "{desc}: {n_fmt} in {elapsed}"
    yield from tqdm(items, desc=description, unit=unit, bar_format=form, file=sys.stderr, delay=2)
