"""The contact sheet: the photos given on top, below them a row of images for each method, a seed for each column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from tenth.core.errors import DataError
from tenth.core.types import Pixels

# Pixels of the sheet, which is drawn at twice the size at which it is usually seen.
MARGIN = 72
IMAGE, REFERENCE = 256, 128  # side of a generated image, of a reference
GAP, LABEL_GAP = 16, 48  # between images; between the labels and the first image
SECTION = 56  # white between title, references and rows
LEAST_LABELS = 220  # width of the labels' column at least, so that short names do not crowd the images
LEADING = 1.35  # distance of lines, in sizes of the font
TITLE, HEADING, NOTE = 44, 26, 22  # sizes of the font
WHITE, BLACK, GREY, PALE = (255, 255, 255), (17, 17, 17), (128, 128, 128), (236, 236, 236)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, eq=False)
class Row:
    """A row of the sheet. label: what made the images. note: a line or more below it, in grey. images: (H, W, 3) each."""

    label: str
    note: str
    images: Sequence[Pixels]


def contact_sheet(references: Sequence[Pixels], rows: Sequence[Row], title: str, columns: Sequence[str]) -> Image.Image:
    """References on top, then the rows; every image is shown 256 pixels wide and high, references 128.

    title: the first line is large, the others are grey. columns: what stands above each image, the same for all rows.
    Raises DataError if a row has another number of images than there are columns.
    """
    for row in rows:
        if len(row.images) != len(columns):
            found = f"the row {row.label} has {len(row.images)} images and the sheet {len(columns)} columns"
            raise DataError(found, "an image for each column is needed", "Draw the same seeds for each row")
    page = _Page(rows, len(columns))
    page.title(title)
    page.references(references)
    page.columns(columns)
    for row in rows:
        page.row(row)
    return page.finished()


class _Page:
    """A white page that is filled from the top; y is where the next part begins."""

    def __init__(self, rows: Sequence[Row], columns: int) -> None:
        texts = [
            (text, size) for row in rows for text, size in ((row.label, HEADING), *((line, NOTE) for line in _lines(row.note)))
        ]
        self.labels = max([LEAST_LABELS, *(_width(text, size) for text, size in texts)])
        self.left = MARGIN + self.labels + LABEL_GAP  # where images begin
        self.width = self.left + columns * (IMAGE + GAP) - GAP + MARGIN
        self.y = MARGIN
        self.canvas = Image.new("RGB", (self.width, 4 * MARGIN), WHITE)

    def title(self, title: str) -> None:
        first, *others = title.split("\n")
        for text in _wrapped(first, TITLE, self.width - 2 * MARGIN):
            self._text(MARGIN, text, TITLE, BLACK)
        self.y += 8
        for line in others:
            for text in _wrapped(line, NOTE, self.width - 2 * MARGIN):
                self._text(MARGIN, text, NOTE, GREY)
        self.y += SECTION

    def references(self, references: Sequence[Pixels]) -> None:
        """As many in a line as fit, the label above them."""
        if not references:
            return
        self._text(MARGIN, f"{len(references)} photo{'s' * (len(references) > 1)} given", NOTE, GREY)
        self.y += 12
        fit = max(1, (self.width - 2 * MARGIN + GAP) // (REFERENCE + GAP))
        for start in range(0, len(references), fit):
            self._images(MARGIN, references[start : start + fit], REFERENCE)
        self.y += SECTION - GAP

    def columns(self, columns: Sequence[str]) -> None:
        top = self.y
        for number, text in enumerate(columns):
            self.y = top
            self._text(self.left + number * (IMAGE + GAP), text, NOTE, GREY)
        self.y = top + round(NOTE * LEADING) + 12

    def row(self, row: Row) -> None:
        top = self.y
        lines = _lines(row.note)
        self.y += (IMAGE - round((HEADING + NOTE * len(lines)) * LEADING)) // 2
        self._text(MARGIN, row.label, HEADING, BLACK)
        for line in lines:
            self._text(MARGIN, line, NOTE, GREY)
        self.y = top
        self._images(self.left, row.images, IMAGE)

    def finished(self) -> Image.Image:
        return self.canvas.crop((0, 0, self.width, self.y - GAP + MARGIN))

    def _images(self, left: int, images: Sequence[Pixels], side: int) -> None:
        self._grow(side)
        for number, pixels in enumerate(images):
            self.canvas.paste(_square(pixels, side), (left + number * (side + GAP), self.y))
        self.y += side + GAP

    def _text(self, left: int, text: str, size: int, colour: tuple[int, int, int]) -> None:
        self._grow(2 * size)
        # Anchored at the baseline, so that lines with and without descenders keep the same distance.
        ImageDraw.Draw(self.canvas).text((left, self.y + size), text, fill=colour, font=_font(size), anchor="ls")
        self.y += round(size * LEADING)

    def _grow(self, needed: int) -> None:
        if self.y + needed + MARGIN > self.canvas.height:
            grown = Image.new("RGB", (self.width, 2 * (self.y + needed + MARGIN)), WHITE)
            grown.paste(self.canvas)
            self.canvas = grown


@cache
def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)  # Aileron, which Pillow brings: the same letters on every machine


def _width(text: str, size: int) -> int:
    return round(_font(size).getlength(text))


def _lines(text: str) -> list[str]:
    return text.split("\n") if text else []


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """The text in lines of at most `width` pixels; a longer word has a line for itself."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, size) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _square(pixels: Pixels, side: int) -> Image.Image:
    """The whole picture within a square of `side`, on pale grey where it is not square."""
    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    square = Image.new("RGB", (side, side), PALE)
    square.paste(image.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


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
