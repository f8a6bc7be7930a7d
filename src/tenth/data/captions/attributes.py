"""Face attributes of LFW's photos, from a CSV or from the published lfw_attributes.txt."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, read_text, reason
from tenth.core.wording import abbreviate

Attributes = Mapping[str, bool | str | None]  # "gender" is "M", "F" or None; all others are True, False, or None if unknown

BINARY_ATTRIBUTES = (
    "smiling", "mouth_open", "eyeglasses", "sunglasses", "mustache", "beard", "bald", "black_hair", "blond_hair", "brown_hair",
    "gray_hair", "hat", "necktie", "lipstick", "earrings", "child", "youth", "senior", "outdoor",
)  # fmt: skip
COLUMNS = ("image", "gender", *BINARY_ATTRIBUTES)
CELL_VALUES: Mapping[str, bool | None] = {"1": True, "0": False, "": None}
GENDERS: Mapping[str, str | None] = {"M": "M", "F": "F", "": None}

MAX_TABLE_BYTES = 128 << 20  # the published table of LFW has 18 MB
SCORE_MARGIN = 0.5  # scores from -0.5 to 0.5 count as unknown: a wrong word in a caption costs more than a missing one
PUBLISHED_COLUMNS: Mapping[str, str] = {
    "smiling": "Smiling", "eyeglasses": "Eyeglasses", "sunglasses": "Sunglasses",
    "mustache": "Mustache", "bald": "Bald", "black_hair": "Black Hair", "blond_hair": "Blond Hair",
    "brown_hair": "Brown Hair", "gray_hair": "Gray Hair", "hat": "Wearing Hat", "necktie": "Wearing Necktie",
    "lipstick": "Wearing Lipstick", "earrings": "Wearing Earrings", "child": "Child", "youth": "Youth", "senior": "Senior",
    "outdoor": "Outdoor",
}  # fmt: skip
NO_BEARD = "No Beard"
OPEN_MOUTH = ("Mouth Slightly Open", "Mouth Wide Open")  # true if one is true, false if both are false


def read_attributes(path: Path) -> dict[str, Attributes]:
    """The attributes by file, such as "Aaron_Eckhart/Aaron_Eckhart_0001.jpg". The first line tells which format it is.

    Source of the published format: Kumar et al. 2009, "Attribute and simile classifiers for face verification".
    Raises DataError if the file is missing, has neither format, lacks a column, or has an invalid value or a file twice.
    """
    try:
        lines = read_text(path, MAX_TABLE_BYTES).splitlines()
    except (OSError, UnreadableError) as problem:
        raise _unreadable(f"{path} {reason(problem)}") from problem
    table: dict[str, Attributes] = {}
    try:
        for number, file, row in (_parse_published_table if lines and lines[0].startswith("#") else _parse_csv)(path, lines):
            if file in table:
                raise _invalid_line(path, number, f"{file} a second time", "each photo has one line")
            table[file] = row
    except csv.Error as error:
        raise _unreadable(f"{path} cannot be read as CSV ({error})") from error
    return table


def _parse_csv(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, str, Attributes]]:
    table = csv.reader(lines)
    header = next(table, [])
    _check_columns(path, header, COLUMNS)
    for cells in table:
        number = table.line_num
        _check_width(path, number, cells, header)
        row = dict(zip(header, cells, strict=True))
        flags = {flag: _value(path, number, flag, row[flag]) for flag in BINARY_ATTRIBUTES}
        if row["gender"] not in GENDERS:
            raise _invalid_line(path, number, f"gender {row['gender']!r}", "a gender is M, F or empty")
        yield number, row["image"], {"gender": GENDERS[row["gender"]], **flags}


def _parse_published_table(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, str, Attributes]]:
    start = next((index for index, line in enumerate(lines) if line.startswith("#\tperson")), len(lines))
    header = lines[start].split("\t")[1:] if start < len(lines) else []
    _check_columns(path, header, ("person", "imagenum", "Male", *PUBLISHED_COLUMNS.values(), NO_BEARD, *OPEN_MOUTH))
    for number, line in enumerate(lines[start + 1 :], start + 2):
        cells = line.split("\t")
        _check_width(path, number, cells, header)
        row = dict(zip(header, cells, strict=True))
        if not re.fullmatch("[0-9]{1,9}", row["imagenum"]):
            raise _invalid_line(path, number, f"imagenum {row['imagenum']!r}", "a photo has a whole number")
        name = row["person"].replace(" ", "_")
        yield number, f"{name}/{name}_{int(row['imagenum']):04d}.jpg", _from_scores(path, number, row)


def _from_scores(path: Path, number: int, row: Mapping[str, str]) -> Attributes:
    columns = ("Male", NO_BEARD, *OPEN_MOUTH, *PUBLISHED_COLUMNS.values())
    known = {column: _score(path, number, column, row[column]) for column in columns}
    gender = {True: "M", False: "F", None: None}[known["Male"]]
    beard = {True: False, False: True, None: None}[known[NO_BEARD]]
    mouths = {known[column] for column in OPEN_MOUTH}
    mouth_open = True if True in mouths else None if None in mouths else False
    flags = {flag: known[column] for flag, column in PUBLISHED_COLUMNS.items()}
    return {"gender": gender, **flags, "beard": beard, "mouth_open": mouth_open}


def _value(path: Path, number: int, column: str, cell: str) -> bool | None:
    if cell not in CELL_VALUES:
        raise _invalid_line(path, number, f"{column} {cell!r}", "a value is 1, 0 or empty")
    return CELL_VALUES[cell]


def _score(path: Path, number: int, column: str, cell: str) -> bool | None:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise _invalid_line(path, number, f"{column} {cell!r}", "a score is a finite number")
    return None if abs(score) <= SCORE_MARGIN else score > 0


def _check_columns(path: Path, header: Sequence[str], needed: Sequence[str]) -> None:
    missing = [column for column in needed if column not in header]
    if missing:
        raise _unreadable(f"{path} has no column {abbreviate(missing)}")


def _check_width(path: Path, number: int, cells: Sequence[str], header: Sequence[str]) -> None:
    if len(cells) != len(header):
        raise _invalid_line(path, number, f"{len(cells)} cells", f"the header has {len(header)}")


def _unreadable(found: str) -> DataError:
    needed = "an attribute table is a CSV that begins with image,gender,smiling,... or the published lfw_attributes.txt"
    return DataError(found, needed, "See docs/data.md for the columns, or leave --attributes out")


def _invalid_line(path: Path, number: int, found: str, needed: str) -> DataError:
    return DataError(f"{path}, line {number}: {found}", needed, "Correct the line, or take the table from its source again")
