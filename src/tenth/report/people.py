"""Several people on one picture: their contact sheets, one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from tenth.report.sheet import WHITE, Row, contact_sheet
from tenth.types import Pixels


@dataclass(frozen=True, eq=False)
class Shown:
    """A person on the picture. title: a number, not a name. references, rows: as `contact_sheet` wants them."""

    title: str
    references: Sequence[Pixels]
    rows: Sequence[Row]


def people_sheet(people: Sequence[Shown], columns: Sequence[str]) -> Image.Image:
    """One contact sheet for each person, stacked. Raises DataError as `contact_sheet` does."""
    sheets = [contact_sheet(person.references, person.rows, person.title, columns) for person in people]
    whole = Image.new("RGB", (max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)), WHITE)
    top = 0
    for sheet in sheets:
        whole.paste(sheet, (0, top))
        top += sheet.height
    return whole
