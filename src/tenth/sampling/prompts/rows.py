"""A file of prompts -> rows: one a line of text, or CSV or JSON lines with a setting in each column."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from tenth.core.errors import DataError, InputError, RecipeError, check_keys
from tenth.core.files.reading import UnreadableError, parse_json, read_lines, read_text, reason
from tenth.core.wording import shorten
from tenth.sampling.bounds import SETTING_RANGES, NumericRange, check_prompt
from tenth.sampling.passes.resolutions import Size, parse_size

MAX_IMAGES = 10_000  # of a folder: 0000.png to 9999.png
NUM_IMAGES = NumericRange(1, MAX_IMAGES, integer=True)
COMMENT = "#"  # at the start of a line of text
NEEDED_ROW = "a row with a prompt is needed"


@dataclass(frozen=True)
class PromptRow:
    """A prompt to generate images of. What is None is left to the command.

    source: file and row, for messages. style: by name, "" for none. sampling: settings of `SamplingConfig` that are its own.
    """

    prompt: str
    negative_prompt: str | None = None
    seed: int | None = None
    size: Size | None = None
    method: str | None = None
    num_images: int | None = None
    source: str = ""
    style: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def refused(self, problem: InputError) -> DataError:
        """An error about this row, which says where it stands."""
        return _in_row(self.source, problem) if self.source else DataError(problem.found, problem.needed, problem.action)


def read_prompt_rows(path: Path) -> list[PromptRow]:
    """The rows of a .txt, .csv or .jsonl file, in order.

    A line of text is a prompt; blank lines and those that begin with # are none. The columns of CSV, and the keys of a line of
    JSON, are those of COLUMNS; only the prompt is needed. Rows are counted as an editor counts lines, and as a spreadsheet
    counts rows. Raises DataError, with the row, for an unknown column or a value that no option would take.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        needed = f"a name that ends in {', '.join(READERS)} is needed"
        raise DataError(f"{path} is no file of prompts by its name", needed, "Rename it, or choose another")
    try:
        rows = [_parse_row(values, f"{path}, row {number}") for number, values in read(path)]
    except (OSError, UnreadableError) as problem:
        raise DataError(
            f"{path} {reason(problem)}", "a file of prompts is needed", "Correct it, or choose another"
        ) from problem
    if not rows:
        raise DataError(f"{path} holds no prompt", "at least one is needed", "Add a line")
    return rows


def _read_text_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(read_lines(path), 1):
        if (prompt := line.strip()) and not prompt.startswith(COMMENT):
            yield number, {"prompt": prompt}


def _read_json_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            values = parse_json(line, unique_keys=True)
        except UnreadableError as problem:
            raise _wrong_row(f"{path}, row {number}", str(problem)) from problem
        if not isinstance(values, dict):
            raise _wrong_row(f"{path}, row {number}", "is no JSON object")
        yield number, {key: value for key, value in values.items() if value is not None}


def _read_csv_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    try:
        table = csv.reader(StringIO(read_text(path), newline=""), strict=True)  # str.splitlines ends lines where editors do not
        header = [name.strip() for name in next(table, [])]
        try:
            check_keys(header, COLUMNS, "column")
        except RecipeError as problem:
            raise _in_row(f"{path}, row 1", problem) from problem
        if len(set(header)) < len(header):
            raise _wrong_row(f"{path}, row 1", "names a column twice")
        for number, cells in enumerate(table, 2):
            if len(cells) not in (0, len(header)):
                raise _wrong_row(f"{path}, row {number}", f"has {len(cells)} values, and the header {len(header)}")
            if any(map(str.strip, cells)):
                yield number, {name: cell for name, cell in zip(header, cells, strict=True) if cell.strip()}
    except csv.Error as problem:
        raise _wrong_row(f"{path}, row {number + 1}", f"is not CSV ({problem})") from problem


READERS: Mapping[str, Callable[[Path], Iterator[tuple[int, Mapping[str, Any]]]]] = {
    ".txt": _read_text_rows,
    ".csv": _read_csv_rows,
    ".jsonl": _read_json_rows,
}


def _number(name: str, allowed: NumericRange) -> Callable[[Any], int]:
    """The parser of a whole number, of text as well."""

    def parse(value: Any) -> int:
        digits = value.strip() if isinstance(value, str) else ""
        number = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 30 else value
        if not allowed.contains(number):
            raise RecipeError(f"{name} is {shorten(repr(value))}", f"{allowed} is needed", "Correct it")
        return int(number)

    return parse


def _text(name: str) -> Callable[[Any], str]:
    def parse(value: Any) -> str:
        check_prompt(name, value)
        return str(value)

    return parse


def _size(value: Any) -> Size:
    if type(value) not in (int, str):
        raise RecipeError(f"size is {shorten(repr(value))}", "a size such as 512 or 512x768 is needed", "Correct it")
    return parse_size(str(value).strip())


COLUMNS: Mapping[str, Callable[[Any], Any]] = {
    "prompt": _text("prompt"),
    "negative_prompt": _text("negative_prompt"),
    "seed": _number("seed", SETTING_RANGES["seed"]),
    "size": _size,
    "method": _text("method"),
    "num_images": _number("num_images", NUM_IMAGES),
}


def _parse_row(values: Mapping[str, Any], source: str) -> PromptRow:
    try:
        check_keys(values, COLUMNS, "column")
        if "prompt" not in values:
            raise DataError("it has no prompt", NEEDED_ROW, "Correct it")
        return PromptRow(**{name: COLUMNS[name](value) for name, value in values.items()}, source=source)
    except InputError as problem:
        raise _in_row(source, problem) from problem


def _wrong_row(source: str, found: str) -> DataError:
    return DataError(f"{source}: it {found}", NEEDED_ROW, "Correct it")


def _in_row(source: str, problem: InputError) -> DataError:
    return DataError(f"{source}: {problem.found}", problem.needed, problem.action)
