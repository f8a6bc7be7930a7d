"""Where things lie on this machine has no place in what is shared: an absolute path is called by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

PLUS = "+"  # between two methods in force together
GENERIC = ("final", "best")  # folders that `tenth train` writes: the one around them says which


def names_of(settings: Mapping[str, Any]) -> dict[str, str]:
    """What each absolute path in an experiment's settings is called: its last part, or as many as tell it from the others.

    The same wherever the experiment is run from. And the folders of this machine by which its user may be known.
    """
    data, methods = settings.get("data"), settings.get("methods")
    values = [*(data.values() if isinstance(data, Mapping) else ()), *(methods if isinstance(methods, list | tuple) else ())]
    values += [settings.get(key) for key in ("judge", "clip", "model")]
    parts = (part for value in values for part in str(value).split(PLUS))
    names = _called(dict.fromkeys(part for part in parts if PurePath(part).is_absolute()))
    own = {str(Path.cwd()): ".", str(Path.home()): "~"}
    return names | {place: name for place, name in own.items() if len(PurePath(place).parts) > 1}


def without_places(value: Any, names: Mapping[str, str]) -> Any:
    """A value of JSON in which every path is called by its name, also within texts and as a key."""
    if isinstance(value, str):
        for place in sorted(names, key=len, reverse=True):
            value = names[place].join(re.split(rf"{re.escape(place)}(?![\w.-]*\w)", value))
        return value
    if isinstance(value, Mapping):
        return {without_places(key, names): without_places(inner, names) for key, inner in value.items()}
    return [without_places(inner, names) for inner in value] if isinstance(value, list | tuple) else value


def _called(paths: Iterable[str]) -> dict[str, str]:
    tails = {path: PurePath(path).parts[1:] for path in paths}
    names: dict[str, str] = {}
    for path, parts in tails.items():
        least = 2 if parts and parts[-1] in GENERIC else 1
        others = [other for each, other in tails.items() if each != path]
        told = (count for count in range(least, len(parts)) if all(other[-count:] != parts[-count:] for other in others))
        names[path] = "/".join(parts[-next(told, len(parts)) :]) or "folder"
    return names
