"""How to get the same record again: the recipe, the hashes behind its names, and the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenth.core.wording import format_duration
from tenth.reporting.results_reader import Recognizer, Results

# What `tenth experiment` adds to the recipe in a record's settings: hashes and versions, which are found, not chosen.
FOUND = {
    *("adapter", "encoder", "inception", "model_weights", "people_sha256", "recognizer_weights", "tenth"),
    *("trained_methods", "tuned_methods"),
}
SELECTION_ONLY = "for model selection only: a method is conditioned on it"


@dataclass(frozen=True)
class Reproduce:
    """What a reader needs to get the same record again; each table of facts is name -> parts."""

    recipe: str
    names: Mapping[str, Sequence[str]]
    machine: Mapping[str, Sequence[str]]
    recognizers: Mapping[str, Sequence[str]]


def reproduce(results: Results) -> Reproduce:
    """Recipe, hashes, environment."""
    took = "" if results.seconds is None else format_duration(results.seconds)
    machine = {**results.environment, "written": results.written, "duration": took}
    return Reproduce(
        recipe_toml(results.settings),
        _facts({key: value for key, value in results.settings.items() if key in FOUND}),
        _facts(machine),
        {recognizer.name: _about(recognizer) for recognizer in results.recognizers},
    )


def recipe_toml(settings: Mapping[str, Any]) -> str:
    """The recipe in a record's settings as TOML: what `tenth experiment` reads. Keys without a value are left out."""
    recipe = {key: value for key, value in settings.items() if key not in FOUND and value is not None}
    return "\n".join(_tables(recipe, ""))


def _tables(table: Mapping[str, Any], name: str) -> list[str]:
    """A table's own keys, then those tables that stand in it under their whole names."""
    lines = [
        f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None and not isinstance(value, Mapping)
    ]
    for key, inner in table.items():
        if isinstance(inner, Mapping):
            whole = f"{name}.{_key(key)}" if name else _key(key)
            lines += ["", f"[{whole}]", *_tables(inner, whole)]
    return lines


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    """JSON's strings, numbers, truth values and lists are TOML's too."""
    return json.dumps(value, ensure_ascii=False)


def _facts(table: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names and values; a value of several parts gets a line for each, and one without any is left out."""
    return {key: parts for key, value in table.items() if (parts := _parts(value))}


def _parts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key} {part}" for key, part in value.items()]
    if isinstance(value, list):
        return [str(part) for part in value]
    return [] if value is None or value == "" else [str(value)]


def _about(recognizer: Recognizer) -> list[str]:
    return [
        SELECTION_ONLY if recognizer.selection_only else "evaluates the results",
        *([f"licence: {recognizer.licence}"] if recognizer.licence else []),
        *([f"threshold {recognizer.threshold:g}"] if recognizer.threshold is not None else []),
    ]
