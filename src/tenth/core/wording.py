"""How counts, times, names and reasons are said in a line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

NAMED = 3  # reasons, files or names in one line
SHOWN = 100  # characters of what was given
MANY = {"person": "people"}
MINUTE, HOUR = 60, 3600  # seconds


def counted(count: int, one: str, many: str = "") -> str:
    """'1 photo', '2 photos', '1,234 people'. many: 'people' of 'person', else one with an s, unless given."""
    return f"{count:,} {one if count == 1 else many or MANY.get(one, f'{one}s')}"


def duration(seconds: float) -> str:
    """'38 s', '1 minute', '12 minutes', '2.7 hours'."""
    if round(seconds) < MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / MINUTE)
    return counted(minutes, "minute") if minutes * MINUTE < HOUR else f"{seconds / HOUR:.1f} hours"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """'Did you mean X? ' where a known name is nearly what was typed, else ''."""
    nearest = {each.casefold(): each for each in reversed(known)}
    found = get_close_matches(name.casefold(), nearest, n=1)
    return f"Did you mean {nearest[found[0]]}? " if found else ""


def few(reasons: Iterable[str], between: str = ", ") -> str:
    """The first NAMED of them, for a line that is to be read, and how many more."""
    every = list(reasons)
    more = [f"and {len(every) - NAMED:,} more"] * (len(every) > NAMED)
    return between.join([*every[:NAMED], *more])


def brief(value: object) -> str:
    """What was given, as text for a line that is to be read."""
    said = str(value)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}..."
