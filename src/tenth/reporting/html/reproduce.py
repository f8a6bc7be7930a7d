"""How to get the same record again: the recipe, what its names stood for, and the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tenth.core.run_record import replace_paths, short_path_names
from tenth.core.wording import format_duration
from tenth.reporting.html.elements import Markup, element, joined
from tenth.reporting.results_reader import Results

# What `tenth experiment` adds to the recipe in a record's settings: hashes and versions, which are found, not chosen.
FOUND = (
    "adapter",
    "encoder",
    "inception",
    "model_weights",
    "people_sha256",
    "recognisers",
    "tenth",
    "trained_methods",
    "tuned_methods",
)


def repeat(results: Results) -> Markup:
    """The section: command, recipe, hashes, environment."""
    command = "tenth experiment recipe.toml -o runs/again"
    settings = replace_paths(results.settings, short_path_names(results.settings))  # of records that earlier versions wrote
    return joined(
        [
            element("p", "Save the recipe as ", element("code", "recipe.toml"), ", mend its paths, and run"),
            element("pre", element("code", command), tabindex="0"),
            element("pre", element("code", recipe_toml(settings)), tabindex="0", aria_label="The recipe"),
            element("h3", "What its names stood for"),
            _list({key: value for key, value in settings.items() if key in FOUND}),
            element("h3", "The machine"),
            _list({**results.environment, "written": results.written} | _duration(results.seconds)),
            element("h3", "The recognisers"),
            _list({judge.name: _about(vars(judge)) for judge in results.judges}),
        ]
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


def _list(table: Mapping[str, Any]) -> Markup:
    """Names and values; a value of several parts gets a line for each."""
    rows = (
        [element("dt", key), *(element("dd", part) for part in _parts(value))] for key, value in table.items() if _parts(value)
    )
    return element("dl", joined(rows), class_="facts")


def _parts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key} {part}" for key, part in value.items()]
    if isinstance(value, list):
        return [str(part) for part in value]
    return [] if value is None or value == "" else [str(value)]


def _about(judge: Mapping[str, Any]) -> list[str]:
    said = ["judges the results" if judge["headline"] else "for choosing only", judge["note"]]
    said += [f"licence: {judge['licence']}" if judge["licence"] else ""]
    said += [f"threshold {judge['threshold']:g}" if judge["threshold"] is not None else ""]
    return [text for text in said if text]


def _duration(seconds: float | None) -> dict[str, str]:
    return {} if seconds is None else {"took": format_duration(seconds)}
