"""A recorded difference as seen from either side: of the two directions a record has one."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace
from typing import Any, Protocol, TypeVar


class Directed(Protocol):
    """A dataclass with these fields: method minus baseline. `win_rate`, where there is one, is the method's."""

    @property
    def method(self) -> str: ...
    @property
    def baseline(self) -> str: ...
    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


Each = TypeVar("Each", bound=Directed)


def in_both_directions(differences: Iterable[tuple[Hashable, Each]]) -> dict[tuple[Hashable, str, str], Each]:
    """Differences by where they are of, method and baseline; turned around where a record has the other direction alone.

    differences: each with where it is of, such as a prompt set. What is recorded twice is taken as it was first.
    """
    found: dict[tuple[Hashable, str, str], Each] = {}
    for where, each in differences:
        found.setdefault((where, each.method, each.baseline), each)
        found.setdefault((where, each.baseline, each.method), turned(each))
    return found


def turned(difference: Each) -> Each:
    """Baseline minus method."""
    low, high = (None if end is None else -end for end in (difference.high, difference.low))
    changes: dict[str, Any] = {"value": -difference.value, "low": low, "high": high}
    if (win_rate := getattr(difference, "win_rate", None)) is not None:
        changes["win_rate"] = 1 - win_rate
    found: Any = difference  # a dataclass, which a protocol cannot say
    result: Each = replace(found, method=difference.baseline, baseline=difference.method, **changes)
    return result
