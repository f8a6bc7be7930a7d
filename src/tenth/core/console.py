"""What a command says: results to stdout, everything else to stderr, and nothing that moves the cursor."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tqdm import tqdm

from tenth.core.wording import printable

T = TypeVar("T")


def allow_any_text() -> None:
    """Make stdout and stderr take any text: of a character that a terminal or a pipe cannot show the number is written.

    A stream that is closed takes everything and keeps nothing; else the next file that is opened would be written to instead.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - until the process ends
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def discard_stdout() -> None:
    """Where stdout takes no more, give it up: what is still in its buffer must not fail again when Python ends."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def progress_bar(description: str, unit: str = "step") -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr over image-steps or bytes (unit "B"), which appears with the first of them."""
    bar: Any = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        bar = bar or tqdm(total=total, desc=description, unit=unit, unit_scale=unit == "B", file=sys.stderr, mininterval=0.5)
        bar.update(done - bar.n)

    try:
        yield update
    finally:
        if bar is not None:
            bar.close()


def print_message(*lines: str) -> None:
    """What to know, on stderr, each on its line."""
    for line in lines:
        print(printable(line), file=sys.stderr)


def print_result(result: Any) -> None:
    """One result on stdout: a mapping as JSON, anything else as text."""
    print(json.dumps(result, indent=1) if isinstance(result, Mapping) else result)


def track(items: Iterable[T], description: str) -> Iterator[T]:
    """The items, with a bar on stderr if they take longer than two seconds."""
    yield from tqdm(items, desc=description, file=sys.stderr, delay=2)
