"""Format counts, durations, names and lists for messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_ITEMS = 3  # of a list in one line
MAX_CHARS = 100  # of a value that is shown
IRREGULAR_PLURALS = {"person": "people"}
MINUTE, HOUR = 60, 3600  # seconds


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """'1 photo', '2 photos', '1,234 people'. plural: by default with an s, or from IRREGULAR_PLURALS."""
    return f"{count:,} {singular if count == 1 else plural or IRREGULAR_PLURALS.get(singular, f'{singular}s')}"


def format_duration(seconds: float) -> str:
    """'38 s', '1 minute', '12 minutes', '2.7 hours'."""
    if round(seconds) < MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    return pluralize(minutes, "minute") if minutes * MINUTE < HOUR else f"{seconds / HOUR:.1f} hours"


def format_bytes(count: int) -> str:
    """'512 bytes', '1.5 kB', '20 GB'."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.4g} {unit}"
    return f"{count} bytes"


def did_you_mean(name: object, known: Sequence[object]) -> str:
    """'Did you mean X? ' if a known name is close to what was typed, else ''."""
    nearest = {str(each).casefold(): each for each in reversed(known)}
    found = get_close_matches(str(name).casefold(), nearest, n=1)
    return f"Did you mean {nearest[found[0]]}? " if found else ""


def abbreviate(items: Iterable[str], separator: str = ", ", *, count: int = 0) -> str:
    """The first MAX_ITEMS items, and how many more there are. count: how many there are, if not all are given."""
    texts = list(items)
    more = max(count, len(texts)) - MAX_ITEMS
    return separator.join([*texts[:MAX_ITEMS], *[f"and {more:,} more"] * (more > 0)])


def shorten(value: object) -> str:
    """The value as text of at most MAX_CHARS characters, then '...'."""
    text = str(value)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}..."


def printable(text: str) -> str:
    """The text with control characters replaced: the name of a file may hold a line end, or move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
