"""A row of a plan: one picture of one person, and the id that says what makes it. Light imports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import PurePosixPath
from typing import Any

from tenth.core.config import from_table, to_table
from tenth.core.errors import DataError, InputError, check_keys
from tenth.core.files.reading import UnreadableError, parse_json
from tenth.core.wording import shorten
from tenth.experiments.generation.request import ImageRequest
from tenth.sampling.bounds import check_setting
from tenth.sampling.config import SamplingConfig
from tenth.sampling.prompts.rows import COLUMNS
from tenth.sampling.prompts.styles import read_style

ROW_FORMAT = 1  # part of each id: another way to make pictures of the same words is another picture
SETTINGS = ("method", "model", "size", "strength", "face_detailer", "style", "sampling")  # of ImageRequest
KEYS = ("person", *COLUMNS, *(name for name in SETTINGS if name not in COLUMNS))
MAX_PERSON_BYTES = 4_096  # of a path
MAX_KNOWN_SETTINGS = 4_096  # that are kept once they were checked: a plan has a few


@dataclass(frozen=True, eq=False)
class RowSettings:
    """What rows have in common. request: without prompt and seed. text: all of it as JSON, for ids. own: what is no default."""

    request: ImageRequest
    text: str
    own: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class BatchRow:
    """A picture to draw. person: a folder of photos or an identity file, absolute or from the folder of the plan.

    Raises RecipeError for a seed out of range, DataError for a person that is no path.
    """

    person: str
    prompt: str
    seed: int
    settings: RowSettings

    def __post_init__(self) -> None:
        check_setting("seed", self.seed)
        if not _is_path(self.person):
            found = f"person is {shorten(repr(self.person))}"
            raise DataError(found, "the path of a folder of photos or an identity file is needed", "Correct it")

    @cached_property
    def id(self) -> str:
        """32 hexadecimal digits of the sha256 of all that the row says, defaults included (docs/decisions/0012-plans.md)."""
        said = json.dumps([ROW_FORMAT, self.person, self.prompt, self.seed])
        return hashlib.sha256(f"{said}{self.settings.text}".encode()).hexdigest()[:32]

    @cached_property
    def request(self) -> ImageRequest:
        """The row as `tenth generate` would have it."""
        return replace(self.settings.request, prompts=(self.prompt,), seed=self.seed)

    @property
    def method(self) -> str:
        """The method's name, "" for the default one, or of an identity file."""
        return self.settings.request.method

    @property
    def model(self) -> str:
        """The model's name."""
        return self.settings.request.model

    @property
    def sort_key(self) -> str:
        """By model and person, so that each is made once; then by what differs least. JSON, so that equal beginnings stay."""
        request = self.settings.request
        return json.dumps([request.model, self.person, request.method, request.size, self.prompt, f"{self.seed:019d}", self.id])

    def to_table(self) -> dict[str, Any]:
        """The row as a line of a plan says it; `parse_rows` gives it back."""
        return {"person": self.person, "prompt": self.prompt, "seed": self.seed, **self.settings.own}


def parse_rows(values: Mapping[str, Any], source: str) -> Iterator[BatchRow]:
    """The rows of one line of a plan: as many as its num_images says, with one seed after the other.

    values: as `tenth generate --prompts` has them, and person, model, strength, face_detailer, style and sampling, a table.
    Raises DataError, with the source, for a key that is none of KEYS, and a value that no option would take.
    """
    try:
        check_keys(values, KEYS)
        for name in ("person", "prompt"):
            if name not in values:
                raise DataError(f"it has no {name}", "a person and a prompt are needed", "Add it")
        known = {name: COLUMNS[name](value) if name in COLUMNS else value for name, value in values.items()}
        first, prompt, count = known.pop("seed", 0), known.pop("prompt"), known.pop("num_images", 1)
        person = known.pop("person")
        person = PurePosixPath(person).as_posix() if isinstance(person, str) and person else person
        settings = row_settings(known)
        rows = [BatchRow(person, prompt, first + index, settings) for index in range(count)]
    except InputError as problem:
        raise DataError(f"{source}: {problem.found}", problem.needed, problem.action) from problem
    yield from rows


def row_settings(values: Mapping[str, Any]) -> RowSettings:
    """The settings of a line, checked once. values: of SETTINGS, and negative_prompt. Raises InputError."""
    table = {name: str(value) if name == "size" else value for name, value in values.items()}
    if "negative_prompt" in table:
        negative, sampling = table.pop("negative_prompt"), table.get("sampling", {})
        if isinstance(sampling, Mapping):  # else it is refused below
            table["sampling"] = {**sampling, "negative_prompt": negative}
    try:
        text = json.dumps(table, sort_keys=True)
    except (TypeError, ValueError) as problem:  # such as a date or bytes, which Parquet has
        raise DataError(
            f"a setting is no text, number or table ({problem})", "values as JSON has them are needed", "Correct it"
        ) from problem
    return _known_settings(text)


@lru_cache(MAX_KNOWN_SETTINGS)
def _known_settings(text: str) -> RowSettings:
    request = from_table(ImageRequest, {**json.loads(text), "prompts": [""], "num_images": 1}, "the row")
    request.check_sized()
    if request.method:
        from tenth.methods.registry import method as find_method  # torch, which takes seconds

        find_method(request.method)
    if request.style:
        read_style(request.style)
    table, defaults = to_table(request), to_table(ImageRequest(prompts=("",)))
    own: dict[str, Any] = {name: table[name] for name in SETTINGS if name != "sampling" and table[name] != defaults[name]}
    sampling, usual = to_table(request.sampling), to_table(SamplingConfig())
    if changed := {name: value for name, value in sampling.items() if value != usual[name]}:
        own["sampling"] = changed
    return RowSettings(request, json.dumps({name: table[name] for name in SETTINGS}, sort_keys=True), own)


def read_row(line: str) -> BatchRow:
    """A line of the rows of a shard. Raises DataError if it is none."""
    try:
        table = parse_json(line)
        row_id = table.pop("id")
        (row,) = parse_rows(table, "a row")
    except (UnreadableError, AttributeError, KeyError, TypeError, ValueError, DataError) as problem:
        raise _damaged_row(line) from problem
    if row.id != row_id:
        raise _damaged_row(line)
    return row


def row_line(row: BatchRow) -> str:
    """A row as a line of the rows of a shard."""
    return json.dumps({"id": row.id, **row.to_table()})


def error_table(error: InputError) -> dict[str, str]:
    """The three parts of an error, as JSON has them."""
    return {"found": error.found, "needed": error.needed, "action": error.action}


def _is_path(value: object) -> bool:
    """Whether it is a text that a file of JSON and a file system can hold."""
    try:
        return isinstance(value, str) and 0 < len(value.encode()) <= MAX_PERSON_BYTES and "\0" not in value
    except UnicodeEncodeError:
        return False


def _damaged_row(line: str) -> DataError:
    return DataError(f"a row reads {shorten(line)}", "a row that this version planned is needed", "Plan anew into another -o")
