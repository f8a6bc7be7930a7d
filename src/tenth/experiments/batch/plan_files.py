"""The files that a plan may be: JSON lines or Parquet, a row a picture, or a small TOML that multiplies people and prompts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from glob import has_magic
from pathlib import Path
from typing import Any

from tenth.core.config import read_toml
from tenth.core.errors import DataError, InputError, RecipeError, check_keys
from tenth.core.files.reading import UnreadableError, is_system_file, parse_json, read_lines, reason, sha256_of
from tenth.core.wording import shorten
from tenth.data.photo_sources import IDENTITY_SUFFIX
from tenth.experiments.batch.rows import KEYS, BatchRow, parse_rows
from tenth.sampling.prompts.rows import COMMENT, read_prompt_rows

PRODUCT_KEYS = ("people", "prompts", "seeds", *(key for key in KEYS if key not in ("person", "prompt")))
NEEDED_PEOPLE = "a folder that holds a folder for each person, a pattern, or a list is needed"
PARQUET_ROWS = 10_000  # in memory at once
MAX_TEMPLATES = 1_000_000  # pictures of each person of a TOML, some 1 GB


def read_plan_rows(path: Path) -> Iterator[BatchRow | InputError]:
    """Each row of a plan, one at a time, or what is wrong with it. Raises DataError or RecipeError if the file is no plan."""
    try:
        yield from _reader(path)(path)
    except (OSError, UnreadableError) as problem:
        raise DataError(f"{path} {reason(problem)}", "a plan is needed", "Correct it, or choose another") from problem


def digest_of_plan(path: Path) -> str:
    """sha256, hexadecimal, of all that a plan's rows are read from: the file, and for TOML also its prompts and people."""
    try:
        if _reader(path) is not _read_product:
            return sha256_of(path)
        digest = hashlib.sha256(json.dumps(_read_table(path), sort_keys=True, default=str).encode())
        for row in _product_templates(path, _read_table(path)):
            digest.update(row.id.encode())
        for person in sorted(_people(path, _read_table(path))):
            digest.update(json.dumps(person).encode())
        return digest.hexdigest()
    except (OSError, UnreadableError) as problem:
        raise DataError(f"{path} {reason(problem)}", "a plan is needed", "Correct it, or choose another") from problem


def _read_json_lines(path: Path) -> Iterator[BatchRow | InputError]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        source = f"{path.name}, row {number}"
        try:
            values = parse_json(line, unique_keys=True)
        except UnreadableError as problem:
            yield DataError(f"{source}: it {problem}", "a row with a person and a prompt is needed", "Correct it")
        else:
            yield from _parsed(values, source)


def _read_parquet(path: Path) -> Iterator[BatchRow | InputError]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as problem:
        found = f"{path} is Parquet, and pyarrow is not installed"
        raise DataError(found, "`tenth[cluster]` is needed to read it", "Install it, or write JSON lines") from problem
    number = 0
    try:
        with ParquetFile(path) as table:
            names = table.schema_arrow.names
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
                found = f"{path} has the column {shorten(repr(twice[0]))} twice"
                raise DataError(found, "each column once is needed", "Correct it")
            for batch in table.iter_batches(PARQUET_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield from _parsed(values, f"{path.name}, row {number}")
    except ArrowException as problem:
        raise DataError(f"{path} is not Parquet ({problem})", "a plan is needed", "Correct it, or choose another") from problem


def _parsed(values: Any, source: str) -> Iterator[BatchRow | InputError]:
    """The rows of one line, without what is null in it; or what is wrong with it."""
    try:
        if not isinstance(values, dict):
            raise DataError(f"{source}: it is no JSON object", "a row with a person and a prompt is needed", "Correct it")
        yield from list(parse_rows(_without_nulls(values), source))
    except InputError as problem:
        yield problem


def _without_nulls(values: Mapping[str, Any]) -> dict[str, Any]:
    """A table of Parquet has every column in every row."""
    return {
        key: _without_nulls(value) if isinstance(value, dict) else value for key, value in values.items() if value is not None
    }


def _read_product(path: Path) -> Iterator[BatchRow | InputError]:
    """Each person with each prompt and each seed."""
    table = _read_table(path)
    templates = _product_templates(path, table)
    for person in _people(path, table):
        for row in templates:
            try:
                yield BatchRow(person, row.prompt, row.seed, row.settings)
            except InputError as problem:
                yield problem


def _read_table(path: Path) -> dict[str, Any]:
    table = read_toml(path, "a plan is one TOML file, or rows")
    try:
        check_keys(table, PRODUCT_KEYS)
    except RecipeError as problem:
        raise RecipeError(f"{path}: {problem.found}", problem.needed, problem.action) from problem
    for key in ("people", "prompts"):
        if key not in table:
            raise RecipeError(f"{path}: {key!r} is missing", "people and prompts are needed", "Add it")
    return table


def _product_templates(path: Path, table: Mapping[str, Any]) -> list[BatchRow]:
    """What is drawn of each person. Raises RecipeError or DataError."""
    prompts, seeds = table["prompts"], table.get("seeds", [table.get("seed", 0)])
    if isinstance(prompts, str):
        named = [
            {key: getattr(row, key) for key in ("prompt", "negative_prompt", "seed", "size", "method", "num_images")}
            for row in read_prompt_rows(path.parent / prompts)
        ]
    elif isinstance(prompts, list):
        named = [{"prompt": prompt} for prompt in prompts]
    else:
        named = []
    if not named:
        needed = 'a list, ["a portrait photo of a person"], or the name of a file of prompts'
        raise RecipeError(f"{path}: prompts is {shorten(repr(prompts))}", needed, "Correct it")
    if not isinstance(seeds, list) or not seeds:
        raise RecipeError(f"{path}: seeds is {shorten(repr(seeds))}", "a list is needed, [0, 1, 2]", "Correct it")
    if "seed" in table and "seeds" in table:
        raise RecipeError(f"{path}: both seed and seeds are given", "one of them is needed", "Remove the other")
    more = {key: value for key, value in table.items() if key not in ("people", "prompts", "seeds", "seed")}
    # Refused before they are made: all of them are in memory.
    each = table.get("num_images", 1)
    counts = [row.get("num_images") or (each if isinstance(each, int) else 1) for row in named]
    if (count := len(seeds) * sum(counts)) > MAX_TEMPLATES:
        found, needed = f"{path} has {count:,} pictures of each person", f"at most {MAX_TEMPLATES:,} are needed in TOML"
        raise RecipeError(found, needed, "Use fewer seeds or prompts, or write JSON lines or Parquet")
    rows: list[BatchRow] = []
    for seed in seeds:
        for number, row in enumerate(named, 1):
            own = {key: str(value) if key == "size" else value for key, value in row.items() if value is not None}
            rows += parse_rows({"seed": seed, **more, **own, "person": "-"}, f"{path.name}, prompt {number}")
    return list({row.id: row for row in rows}.values())


def _people(path: Path, table: Mapping[str, Any]) -> Iterable[str]:
    """Who is drawn, from the folder of the plan: the entries of a folder, what a pattern fits, or the lines of a list."""
    people, root = table["people"], path.parent
    if isinstance(people, list):
        for each in people:
            if not isinstance(each, str) or not each:
                needed = "a list of paths, each a text, is needed"
                raise DataError(f"{path}: people has {shorten(repr(each))}", needed, "Correct it")
        names = people
    elif not isinstance(people, str) or not people:
        names = []
    elif has_magic(people) and not os.path.lexists(root / people):
        anchor = Path(people).anchor
        found = Path(anchor).glob(str(Path(people).relative_to(anchor))) if anchor else root.glob(people)
        names = [str(path if anchor else path.relative_to(root)) for path in found if _is_person(path)]
    elif (root / people).is_dir():
        names = [str(Path(people) / each.name) for each in (root / people).iterdir() if _is_person(each)]
    else:
        try:
            lines = [line.strip() for line in read_lines(root / people)]
        except (OSError, UnreadableError) as problem:
            raise DataError(f"{root / people} {reason(problem)}", NEEDED_PEOPLE, "Correct people") from problem
        names = [line for line in lines if line and not line.startswith(COMMENT)]
    if not names:
        raise DataError(f"{path}: people is {shorten(repr(people))}, which is nobody", NEEDED_PEOPLE, "Correct it")
    return (Path(name).as_posix() for name in names)


def _is_person(path: Path) -> bool:
    """Whether an entry of a folder is somebody: a folder or an identity file, and no file of the system's."""
    return not (is_system_file(path.name) or path.name[0] == ".") and (path.suffix == IDENTITY_SUFFIX or path.is_dir())


READERS: Mapping[str, Callable[[Path], Iterator[BatchRow | InputError]]] = {
    ".jsonl": _read_json_lines,
    ".parquet": _read_parquet,
    ".toml": _read_product,
}


def _reader(path: Path) -> Callable[[Path], Iterator[BatchRow | InputError]]:
    read = READERS.get(path.suffix.lower())
    if read is None:
        needed = f"a name that ends in {', '.join(READERS)} is needed"
        raise DataError(f"{path} is no plan by its name", needed, "Rename it, or choose another")
    return read
