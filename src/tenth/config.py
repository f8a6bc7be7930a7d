"""Recipe TOML <-> dataclass. An unknown key is an error that names the known ones."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from tenth.errors import RecipeError

Recipe = TypeVar("Recipe")


def read_toml(path: Path) -> dict[str, Any]:
    """The table in a TOML file. Raises RecipeError if the file is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist", "a recipe file is needed", "Check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise RecipeError(f"{path} is not TOML: {problem}", "a recipe is one TOML file", "Mend that line") from None


def from_table(kind: type[Recipe], table: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """A dataclass from a table, nested dataclasses from nested tables.

    Raises RecipeError at an unknown key, a missing one, or a value of another type.
    """
    if not is_dataclass(kind):
        raise TypeError(f"{kind} is not a dataclass")
    hints = get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for key in table:
        _check_known(key, known, where)
    for field in fields(kind):
        if field.name not in table and field.default is MISSING and field.default_factory is MISSING:
            raise RecipeError(f"{where} has no key {field.name!r}", f"needed: {_kind_name(hints[field.name])}", "Add it")
    values = {key: _value(hints[key], value, f"{where}, {key}") for key, value in table.items()}
    return kind(**values)


def with_changes(settings: Recipe, table: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """The settings with what a table says instead; of nested dataclasses the keys that a nested table has. Raises as above."""
    changed: dict[str, Any] = {}
    for key, value in table.items():
        before, place = getattr(settings, key, None), f"{where}, {key}"
        if is_dataclass(before) and isinstance(value, Mapping):
            changed[key] = with_changes(before, value, place)
        else:
            hints = get_type_hints(type(settings))
            _check_known(key, list(hints), where)
            changed[key] = _value(hints[key], value, place)
    return replace(settings, **changed)  # type: ignore[type-var]


def _check_known(key: str, known: Sequence[str], where: str) -> None:
    if key not in known:
        raise RecipeError(f"{where} has the key {key!r}", f"known keys: {', '.join(known)}", "Correct or remove it")


def _value(hint: Any, value: Any, where: str) -> Any:
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return from_table(hint, value, where)
    if hint is Path and isinstance(value, str):
        return Path(value).expanduser()
    if hint is float and type(value) is int:
        return float(value)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_value(get_args(hint)[0], item, where) for item in value)
    if get_origin(hint) is Mapping and isinstance(value, Mapping):
        return {name: _value(get_args(hint)[1], item, f"{where}, {name}") for name, item in value.items()}
    if get_origin(hint) in (Union, UnionType):
        return _value(next(choice for choice in get_args(hint) if choice is not type(None)), value, where)
    if type(value) is not hint:
        raise RecipeError(f"{where} is {value!r}", f"needed: {_kind_name(hint)}", "Correct it")
    return value


def _kind_name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))
