"""The contact sheet: the photos given on top, below them a row of images for each method, a seed for each column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image, ImageDraw, ImageFont, ImageOps

from tenth.core.errors import DataError
from tenth.core.types import Pixels

# Pixels of the sheet, which is drawn at twice the size at which it is usually seen.
MARGIN = 72
IMAGE, REFERENCE = 256, 128  # side of a generated image, of a reference
GAP, LABEL_GAP = 16, 48  # between images; between the labels and the first image
SECTION = 56  # white between title, references and rows
MIN_LABELS = 220  # width of the labels' column at least, so that short names do not crowd the images
LEADING = 1.35  # distance of lines, in sizes of the font
TITLE, HEADING, NOTE = 44, 26, 22  # sizes of the font
WHITE, BLACK, GREY, PALE = (255, 255, 255), (17, 17, 17), (128, 128, 128), (236, 236, 236)

Line = tuple[str, int]  # text, size: a heading is black, a note grey


@dataclass(frozen=True, eq=False)
class SheetRow:
    """A row of the sheet. label: what made the images. note: a line or more below it, in grey. images: (H, W, 3) each."""

    label: str
    note: str
    images: Sequence[Pixels]

    @property
    def lines(self) -> list[Line]:
        """The label and the note."""
        return [(self.label, HEADING), *((line, NOTE) for line in self.note.split("\n") if line)]


@dataclass(frozen=True, eq=False)
class SheetPerson:
    """A person on the sheet. title: a number, not a name. references, rows: as `contact_sheet` takes them."""

    title: str
    references: Sequence[Pixels]
    rows: Sequence[SheetRow]


def contact_sheet(references: Sequence[Pixels], rows: Sequence[SheetRow], title: str, columns: Sequence[str]) -> Image.Image:
    """References on top, then the rows; every image is shown 256 pixels wide and high, references 128.

    title: the first line is large, the others are grey. columns: what stands above each image, the same for all rows.
    Raises DataError if a row has another number of images than there are columns.
    """
    for row in rows:
        if len(row.images) != len(columns):
            found = f"the row {row.label} has {len(row.images)} images and the sheet {len(columns)} columns"
            raise DataError(found, "an image for each column is needed", "Draw the same seeds for each row")
    labels = max([MIN_LABELS, *(_width(text, size) for row in rows for text, size in row.lines)])
    left = MARGIN + labels + LABEL_GAP  # where images begin
    width = left + len(columns) * (IMAGE + GAP) - GAP + MARGIN

    # Strips of the sheet's width, from the top: title, references, heads of the columns, rows.
    first, *others = title.split("\n")
    strips = [_white(width, MARGIN), _text(width, _wrapped(first, TITLE, width)), _white(width, 8)]
    strips += [_text(width, [line for other in others for line in _wrapped(other, NOTE, width)]), _white(width, SECTION)]
    if references:
        strips += [_text(width, [(f"{len(references)} photo{'s' * (len(references) > 1)} given", NOTE)]), _white(width, 12)]
        fit = max(1, (width - 2 * MARGIN + GAP) // (REFERENCE + GAP))
        for start in range(0, len(references), fit):
            strips.append(_images(width, MARGIN, references[start : start + fit], REFERENCE))
        strips.append(_white(width, SECTION - GAP))
    heads = _white(width, round(NOTE * LEADING) + 12)
    for index, head in enumerate(columns):
        _write(heads, left + index * (IMAGE + GAP), 0, (head, NOTE))
    strips.append(heads)
    for row in rows:
        strips.append(_images(width, left, row.images, IMAGE))
        text = _text(left, row.lines)
        strips[-1].paste(text, (0, (IMAGE - text.height) // 2))
    return _stacked([*strips, _white(width, MARGIN - GAP)])


def people_sheet(people: Sequence[SheetPerson], columns: Sequence[str]) -> Image.Image:
    """One contact sheet for each person, stacked. Raises DataError as `contact_sheet` does."""
    return _stacked([contact_sheet(person.references, person.rows, person.title, columns) for person in people])


def _stacked(strips: Sequence[Image.Image]) -> Image.Image:
    whole = _white(max(strip.width for strip in strips), sum(strip.height for strip in strips))
    top = 0
    for strip in strips:
        whole.paste(strip, (0, top))
        top += strip.height
    return whole


def _white(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), WHITE)


def _text(width: int, lines: Sequence[Line]) -> Image.Image:
    """Lines one below the other, at the margin."""
    strip, top = _white(width, sum(round(size * LEADING) for _, size in lines)), 0
    for text, size in lines:
        _write(strip, MARGIN, top, (text, size))
        top += round(size * LEADING)
    return strip


def _write(strip: Image.Image, left: int, top: int, line: Line) -> None:
    """Anchored at the baseline, so that lines with and without descenders keep the same distance."""
    text, size = line
    color = GREY if size == NOTE else BLACK
    ImageDraw.Draw(strip).text((left, top + size), text, fill=color, font=_font(size), anchor="ls")


def _images(width: int, left: int, images: Iterable[Pixels], side: int) -> Image.Image:
    """Images side by side, each whole within a square, on pale grey where it is not square; the gap is below them."""
    strip = _white(width, side + GAP)
    for index, pixels in enumerate(images):
        square = ImageOps.pad(Image.fromarray(pixels), (side, side), Image.Resampling.LANCZOS, color=PALE)
        strip.paste(square, (left + index * (side + GAP), 0))
    return strip


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)  # Aileron, which Pillow brings: the same letters on every machine


def _width(text: str, size: int) -> int:
    return round(_font(size).getlength(text))


def _wrapped(text: str, size: int, width: int) -> list[Line]:
    """The text in lines between the margins; a longer word has a line for itself."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer, size) > width - 2 * MARGIN:
            lines.append(word)
        else:
            lines[-1] = longer
    return [(wrapped, size) for wrapped in lines]
