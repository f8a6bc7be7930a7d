"""Recipe TOML <-> frozen dataclasses, which pydantic validates. What is wrong is named by its dotted path in a RecipeError."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import field, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import to_jsonable_python

from tenth.core.errors import RecipeError, unknown_key
from tenth.core.files import reading as file_reading
from tenth.core.files.reading import UnreadableError, reason
from tenth.core.wording import shorten

T = TypeVar("T")
MAX_RECIPE_BYTES = 1 << 20  # of a TOML file; the longest recipe has 3 kB
MAX_NUMBER = 1e9  # of numbers with a fraction; whole ones have 64 bits
CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)
UNKNOWN_KEY = "unexpected_keyword_argument"  # pydantic's name for it


def _to_path(value: Any) -> Path:
    if not isinstance(value, str | Path) or "\0" in str(value):
        raise ValueError("a path")
    try:
        return Path(value).expanduser()
    except RuntimeError:  # ~somebody, who is not on this machine
        return Path(value)


def needs(expected: str, test: Callable[[Any], bool]) -> AfterValidator:
    """A validator of values that pass a test. expected: what is needed, for the error."""

    def validate(value: T) -> T:
        if not test(value):
            raise ValueError(expected)
        return value

    return AfterValidator(validate)


def one_of(choices: Collection[str]) -> AfterValidator:
    """A validator of names in a table."""
    return needs(f"one of {', '.join(choices)}", lambda value: value in choices)


# Types of settings
Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, le=MAX_NUMBER)]
Positive = Annotated[float, Field(gt=0, le=MAX_NUMBER)]
FilePath = Annotated[Path, PlainValidator(_to_path)]
SomeItems = Annotated[tuple[T, ...], needs("one or more", lambda items: len(items) > 0)]


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def config_dataclass(cls: type[T]) -> type[T]:
    """A frozen dataclass of settings, validated however it is made: nothing is converted but whole numbers to float.

    Making one raises RecipeError for an unknown key, a missing one or a value of another type or out of its bounds.
    """
    validated: Any = dataclass(frozen=True, config=CONFIG)(cls)
    init = validated.__init__

    @wraps(init)
    def validated_init(self: Any, /, *args: Any, **values: Any) -> None:
        try:
            init(self, *args, **values)
        except ValidationError as problem:
            raise _recipe_error(problem, validated) from None

    validated.__init__ = validated_init
    checked: type[T] = validated
    return checked


def require(valid: bool, key: str, value: object, expected: str) -> None:
    """Raises RecipeError unless a setting is valid: for what depends on another setting."""
    if not valid:
        shown = list(value) if isinstance(value, tuple) else value
        raise RecipeError(f"{key} is {shorten(repr(shown))}", f"needed: {expected}", "Correct it")


def read_toml(path: Path, needed: str = "a recipe is one TOML file") -> dict[str, Any]:
    """The table in a TOML file. Raises RecipeError, with what is needed, if it is missing or is not TOML."""
    try:
        return file_reading.read_toml(path, MAX_RECIPE_BYTES)
    except (OSError, UnreadableError) as problem:
        action = "Check the path" if isinstance(problem, OSError) else "Mend it, or choose another"
        raise RecipeError(f"{path} {reason(problem)}", needed, action) from problem


def from_table(cls: type[T], table: Mapping[str, Any], where: str = "the recipe") -> T:
    """A `config_dataclass` from a table, nested ones from nested tables. Raises RecipeError, which says `where`.

    As JSON, since pydantic's strict mode then takes a list for a tuple, an object for a dataclass and a text for a path.
    """
    try:
        return TypeAdapter(cls).validate_json(json.dumps(table, default=str, ensure_ascii=False).encode())
    except UnicodeEncodeError:
        error = RecipeError("half a character", "text in UTF-8 is needed", "Correct it")
    except ValidationError as problem:
        error = _recipe_error(problem, cls)
    except RecipeError as problem:
        error = problem
    raise RecipeError(f"{where}: {error.found}", error.needed, error.action)


def with_overrides(settings: T, table: Mapping[str, Any], where: str = "the recipe") -> T:
    """The settings with what a table says instead; of nested dataclasses the keys that a nested table has. Raises as above."""
    return from_table(type(settings), _merge(settings, table), where)


def to_table(settings: Any) -> dict[str, Any]:
    """A dataclass as JSON gives it back, nested ones too."""
    return dict(to_jsonable_python(settings))


def _merge(settings: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    merged = to_table(settings)
    for key, value in table.items():
        before = getattr(settings, key, None)
        merged[key] = _merge(before, value) if is_dataclass(before) and isinstance(value, Mapping) else value
    return merged


def _recipe_error(problem: ValidationError, cls: type) -> RecipeError:
    """The first of pydantic's errors in three parts; an unknown key before others, since it may be a missing one misspelt."""
    errors = problem.errors(include_url=False)
    error = next((each for each in errors if each["type"] == UNKNOWN_KEY), errors[0])
    location = error["loc"]
    if location and isinstance(location[0], int):  # an argument without its name
        location = (fields(cls)[location[0]].name, *location[1:])
    key = ".".join(map(str, location)) or "it"
    if error["type"] == UNKNOWN_KEY:
        known = [each.name for each in fields(_dataclass_at(cls, location[:-1]))]
        return unknown_key(key, known)
    if error["type"] == "missing":
        return RecipeError(f"{key!r} is missing", "it has no default", "Add it")
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return RecipeError(f"{key} is {shorten(repr(error['input']))}", f"needed: {expected}", "Correct it")


def _dataclass_at(cls: Any, location: tuple[int | str, ...]) -> Any:
    """The dataclass of a table within a recipe; names of a mapping and places in a list are passed over."""
    for key in location:
        hint = get_type_hints(cls).get(str(key))
        cls = cls if hint is None else _dataclass_in(hint)
    return cls


def _dataclass_in(hint: Any) -> Any:
    if is_dataclass(hint):
        return hint
    return next((found for inner in get_args(hint) if (found := _dataclass_in(inner)) is not None), None)
