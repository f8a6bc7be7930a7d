"""Recipes: TOML <-> dataclasses. An unknown key is an error that lists the known ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tenth.core.errors import RecipeError
from tenth.core.files import reading as file_reading
from tenth.core.files.reading import UnreadableError, reason
from tenth.core.wording import did_you_mean

Recipe = TypeVar("Recipe")
MAX_RECIPE_BYTES = 1 << 20  # the longest recipe has 3 kB
MAX_NUMBER = 1e9  # of floats; integers have 64 bits


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises RecipeError if it is missing or not TOML, or has a number out of range."""
    try:
        table = file_reading.read_toml(path, MAX_RECIPE_BYTES)
    except (OSError, UnreadableError) as problem:
        action = "Check the path" if isinstance(problem, OSError) else "Mend it, or choose another"
        raise RecipeError(f"{path} {reason(problem)}", "a recipe is one TOML file", action) from problem
    _check_numbers(table, str(path))
    return table


def _check_numbers(value: Any, where: str) -> None:
    """Raises RecipeError for a negative or very large number: recipes hold counts, seeds, rates and weights."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value, 1):
            _check_numbers(inner, f"{where}, {key}")
    if isinstance(value, int) and value < 0:
        raise RecipeError(f"{where} is {value}", "needed: a whole number from 0", "Correct it")
    if isinstance(value, float) and not 0 <= value <= MAX_NUMBER:
        raise RecipeError(f"{where} is {value}", f"needed: a number from 0 to {MAX_NUMBER:g}", "Correct it")


def from_table(cls: type[Recipe], table: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """A dataclass from a table, nested dataclasses from nested tables.

    Raises RecipeError at an unknown key, a missing one, or a value of another type.
    """
    if not is_dataclass(cls):
        raise TypeError(f"{cls} is not a dataclass")
    hints = get_type_hints(cls)
    known = [each.name for each in fields(cls)]
    for key in table:
        _check_known(key, known, where)
    for setting in fields(cls):
        if setting.name not in table and setting.default is MISSING and setting.default_factory is MISSING:
            raise RecipeError(f"{where} has no key {setting.name!r}", f"needed: {_type_name(hints[setting.name])}", "Add it")
    values = {key: _value(hints[key], value, f"{where}, {key}") for key, value in table.items()}
    return cls(**values)


def with_overrides(settings: Recipe, table: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """The settings with the keys of a table replaced, also in nested dataclasses. Raises as `from_table`."""
    changed: dict[str, Any] = {}
    for key, value in table.items():
        before, location = getattr(settings, key, None), f"{where}, {key}"
        if is_dataclass(before) and isinstance(value, Mapping):
            changed[key] = with_overrides(before, value, location)
        else:
            hints = get_type_hints(type(settings))
            _check_known(key, list(hints), where)
            changed[key] = _value(hints[key], value, location)
    return replace(settings, **changed)  # type: ignore[type-var]


def to_table(settings: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back, nested ones too."""
    return {each.name: _plain(getattr(settings, each.name)) for each in fields(settings)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return to_table(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _check_known(key: str, known: Sequence[str], where: str) -> None:
    if key not in known:
        raise RecipeError(
            f"{where} has the key {key!r}", f"known keys: {', '.join(known)}", did_you_mean(key, known) + "Correct or remove it"
        )


def _value(hint: Any, value: Any, where: str) -> Any:
    # Converted: tables, paths, floats and lists. All else must have the very type of the field.
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_table(hint, value, where)
    if hint is Path and isinstance(value, str):
        return _path(value, where)
    if hint is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise RecipeError(f"{where} is {value}", "needed: a finite number", "Correct it")
        return float(value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(get_args(hint)[0], item, where) for item in value)
    if get_origin(hint) is Mapping and isinstance(value, Mapping):
        return {name: _value(get_args(hint)[1], item, f"{where}, {name}") for name, item in value.items()}
    if get_origin(hint) in (Union, UnionType):
        choices = [choice for choice in get_args(hint) if choice is not type(None)]
        nested = [choice for choice in choices if get_origin(choice) is Mapping and isinstance(value, Mapping)]
        return _value([*nested, *choices][0], value, where)
    if hint is Any:
        return value
    if type(value) is not hint:
        raise RecipeError(f"{where} is {value!r}", f"needed: {_type_name(hint)}", "Correct it")
    return value


def _path(text: str, where: str) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # ~somebody, who is not on this machine
        path = Path(text)
    if "\0" in text:
        raise RecipeError(f"{where} is {text!r}", "needed: a path", "Correct it")
    return path


def _type_name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))
