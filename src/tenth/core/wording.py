"""How counts, times, names and reasons are said in a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_ITEMS = 3  # reasons, files or names in one line
MAX_CHARS = 100  # characters of what was given
IRREGULAR_PLURALS = {"person": "people"}
MINUTE, HOUR = 60, 3600  # seconds


def pluralize(count: int, singular: str, plural: str = "") -> str:
    """'1 photo', '2 photos', '1,234 people'. plural: 'people' of 'person', else one with an s, unless given."""
    return f"{count:,} {singular if count == 1 else plural or IRREGULAR_PLURALS.get(singular, f'{singular}s')}"


def format_duration(seconds: float) -> str:
    """'38 s', '1 minute', '12 minutes', '2.7 hours'."""
    if round(seconds) < MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    return pluralize(minutes, "minute") if minutes * MINUTE < HOUR else f"{seconds / HOUR:.1f} hours"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """'Did you mean X? ' where a known name is nearly what was typed, else ''."""
    nearest = {each.casefold(): each for each in reversed(known)}
    found = get_close_matches(name.casefold(), nearest, n=1)
    return f"Did you mean {nearest[found[0]]}? " if found else ""


def abbreviate(items: Iterable[str], separator: str = ", ") -> str:
    """The first MAX_ITEMS of them, for a line that is to be read, and how many more."""
    texts = list(items)
    more = [f"and {len(texts) - MAX_ITEMS:,} more"] * (len(texts) > MAX_ITEMS)
    return separator.join([*texts[:MAX_ITEMS], *more])


def shorten(value: object) -> str:
    """What was given, as text for a line that is to be read."""
    text = str(value)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}..."


def printable(text: str) -> str:
    """The text with control characters replaced: the name of a file may hold a line end, or move a terminal's cursor."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
