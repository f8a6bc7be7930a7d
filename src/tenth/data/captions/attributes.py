"""Face attributes of LFW's photos, from a CSV or from the published lfw_attributes.txt."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
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
MEND = "Correct the line, or take the table from its source again"
NO_BEARD = "No Beard"
OPEN_MOUTH = ("Mouth Slightly Open", "Mouth Wide Open")  # true if one is true, false if both are false
PUBLISHED_HEADER = ("person", "imagenum", "Male", NO_BEARD, *OPEN_MOUTH, *PUBLISHED_COLUMNS.values())


def read_attributes(path: Path) -> dict[str, Attributes]:
    """The attributes by file, such as "Aaron_Eckhart/Aaron_Eckhart_0001.jpg". The first line tells which format it is.

    Source of the published format: Kumar et al. 2009, "Attribute and simile classifiers for face verification".
    Raises DataError if the file is missing, has neither format, lacks a column, or has an invalid value or a file twice.
    """
    try:
        lines = read_text(path, MAX_TABLE_BYTES).splitlines()
        return _parse(path, lines)
    except (OSError, UnreadableError) as problem:
        raise _unreadable(f"{path} {reason(problem)}") from problem
    except csv.Error as error:
        raise _unreadable(f"{path} cannot be read as CSV ({error})") from error


def _parse(path: Path, lines: Sequence[str]) -> dict[str, Attributes]:
    # The header, which the published table has below a comment.
    if published := bool(lines) and lines[0].startswith("#"):
        skipped = next((index for index, line in enumerate(lines) if line.startswith("#\tperson")), len(lines))
        reader = csv.reader(lines[skipped:], delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        skipped, reader = 0, csv.reader(lines)
    header = next(reader, [])[published:]
    if missing := [column for column in (PUBLISHED_HEADER if published else COLUMNS) if column not in header]:
        raise _unreadable(f"{path} has no column {abbreviate(missing)}")

    # A line for each photo.
    table: dict[str, Attributes] = {}
    for cells in reader:
        try:
            if len(cells) != len(header):
                raise DataError(f"{len(cells)} cells", f"the header has {len(header)}", MEND)
            row = dict(zip(header, cells, strict=True))
            file = _published_file(row) if published else row["image"]
            if file in table:
                raise DataError(f"{file} a second time", "each photo has one line", MEND)
            table[file] = _from_scores(row) if published else _from_flags(row)
        except DataError as problem:
            found = f"{path}, line {skipped + reader.line_num}: {problem.found}"
            raise DataError(found, problem.needed, problem.action) from None
    return table


def _published_file(row: Mapping[str, str]) -> str:
    name, number = row["person"].replace(" ", "_"), row["imagenum"]
    if not re.fullmatch("[0-9]{1,9}", number):
        raise DataError(f"imagenum {number!r}", "a photo has a whole number", MEND)
    return f"{name}/{name}_{int(number):04d}.jpg"


def _from_flags(row: Mapping[str, str]) -> Attributes:
    for flag in BINARY_ATTRIBUTES:
        if row[flag] not in CELL_VALUES:
            raise DataError(f"{flag} {row[flag]!r}", "a value is 1, 0 or empty", MEND)
    if row["gender"] not in GENDERS:
        raise DataError(f"gender {row['gender']!r}", "a gender is M, F or empty", MEND)
    return {"gender": GENDERS[row["gender"]], **{flag: CELL_VALUES[row[flag]] for flag in BINARY_ATTRIBUTES}}


def _from_scores(row: Mapping[str, str]) -> Attributes:
    known = {column: _score(column, row[column]) for column in PUBLISHED_HEADER[2:]}
    gender = {True: "M", False: "F", None: None}[known["Male"]]
    beard = {True: False, False: True, None: None}[known[NO_BEARD]]
    mouths = {known[column] for column in OPEN_MOUTH}
    mouth_open = True if True in mouths else None if None in mouths else False
    flags = {flag: known[column] for flag, column in PUBLISHED_COLUMNS.items()}
    return {"gender": gender, **flags, "beard": beard, "mouth_open": mouth_open}


def _score(column: str, cell: str) -> bool | None:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise DataError(f"{column} {cell!r}", "a score is a finite number", MEND)
    return None if abs(score) <= SCORE_MARGIN else score > 0


def _unreadable(found: str) -> DataError:
    needed = "an attribute table is a CSV that begins with image,gender,smiling,... or the published lfw_attributes.txt"
    return DataError(found, needed, "See docs/data.md for the columns, or leave --attributes out")
