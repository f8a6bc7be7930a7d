"""Contact sheets: the photos given on top; below them a row of images for each method, or all images of each prompt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
MIN_COLUMNS, MAX_COLUMNS = 4, 6  # of the images of a prompt: the sheet is no wider and no narrower
MAX_GRID_COLUMNS, MAX_FULL_SIZE = 10, 100  # of a grid: images side by side, and images that are shown at full size
ROW_HEADINGS = 300  # width of what stands left of a grid's rows, at most
MAX_HEADING_CHARS = 300
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
class SheetImage:
    """An image (H, W, 3) and the line below it, in grey."""

    pixels: Pixels
    caption: str


@dataclass(frozen=True, eq=False)
class SheetGrid:
    """Images in columns and rows, and groups of rows: headings of each, none where there is one alone.

    images: those of a row side by side, then the next row's, then the next group's.
    """

    images: Sequence[SheetImage]
    columns: Sequence[str]
    rows: Sequence[str] = ()
    groups: Sequence[str] = ()

    @property
    def blocks(self) -> Iterator[tuple[str, list[Sequence[SheetImage]]]]:
        """The heading of each group, and its rows."""
        width, height = len(self.columns), max(1, len(self.rows))
        lines = [self.images[start : start + width] for start in range(0, len(self.images), width)]
        for index, heading in enumerate(self.groups or [""]):
            yield heading, lines[index * height : (index + 1) * height]


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
    strips += _reference_strips(width, references, REFERENCE, max(1, (width - 2 * MARGIN + GAP) // (REFERENCE + GAP)))
    heads = _white(width, round(NOTE * LEADING) + 12)
    for index, head in enumerate(columns):
        _write(heads, left + index * (IMAGE + GAP), 0, (head, NOTE))
    strips.append(heads)
    for row in rows:
        strips.append(_images(width, left, row.images, IMAGE))
        text = _text(left, row.lines)
        strips[-1].paste(text, (0, (IMAGE - text.height) // 2))
    return _stacked([*strips, _white(width, MARGIN - GAP)])


def image_sheet(references: Sequence[Pixels], groups: Mapping[str, Sequence[SheetImage]], details: str) -> Image.Image:
    """References on top, then the images of each group in rows of equal width, 256 pixels each, with their captions.

    groups: by the heading above them, such as a prompt; one alone is the title. details: a line below the title, in grey.
    """
    columns = min(MAX_COLUMNS, max(MIN_COLUMNS, *map(len, groups.values()), 0))
    width = 2 * MARGIN + columns * (IMAGE + GAP) - GAP
    title, headings = next(iter(groups), ""), len(groups) > 1
    strips = [_white(width, MARGIN)]
    if not headings:
        strips += [_text(width, _wrapped(title, TITLE, width)), _white(width, 8)]
    strips += [_text(width, _wrapped(details, NOTE, width)), _white(width, SECTION)]
    rows = max(1, math.ceil(len(references) / (2 * columns + 2)))  # of references, equally long and as small as they must be
    per_row = max(1, math.ceil(len(references) / rows))
    strips += _reference_strips(width, references, min(REFERENCE, (width - 2 * MARGIN + GAP) // per_row - GAP), per_row)
    for heading, images in groups.items():
        if headings:
            strips += [_text(width, _wrapped(heading, HEADING, width)), _white(width, GAP)]
        for start in range(0, len(images), columns):
            row = images[start : start + columns]
            captions = _white(width, round(NOTE * LEADING))
            for index, image in enumerate(row):
                _write(captions, MARGIN + index * (IMAGE + GAP), 0, (image.caption, NOTE))
            strips += [_images(width, MARGIN, [image.pixels for image in row], IMAGE), captions, _white(width, GAP)]
        strips.append(_white(width, SECTION - GAP))
    return _stacked([*strips, _white(width, MARGIN - SECTION)])


def grid_sheet(references: Sequence[Pixels], grid: SheetGrid, title: str) -> Image.Image:
    """References on top, then the rows of each group, with their headings, and each image's caption below it.

    title: the first line is large, the others are grey. Images are 256 pixels wide and high, of more than MAX_FULL_SIZE 128. A
    row of more than MAX_GRID_COLUMNS goes on below all others. Headings are cut to their place.
    """
    side = IMAGE if len(grid.images) <= MAX_FULL_SIZE else REFERENCE
    labels = min(ROW_HEADINGS, max((_width(heading[:MAX_HEADING_CHARS], NOTE) for heading in grid.rows), default=0))
    left = MARGIN + labels + LABEL_GAP * bool(grid.rows)  # where images begin
    per_line = min(len(grid.columns), MAX_GRID_COLUMNS * IMAGE // side)
    width = left + max(per_line * (side + GAP), MIN_COLUMNS * (IMAGE + GAP)) - GAP + MARGIN
    first, *others = title.split("\n")
    strips = [_white(width, MARGIN), _text(width, _wrapped(first, TITLE, width)), _white(width, 8)]
    strips += [_text(width, [line for other in others for line in _wrapped(other, NOTE, width)]), _white(width, SECTION)]
    strips += _reference_strips(width, references, REFERENCE, (width - 2 * MARGIN + GAP) // (REFERENCE + GAP))

    # Groups, each in as many blocks of columns as it takes.
    for heading, lines in grid.blocks:
        if heading:
            strips += [_text(width, _wrapped(heading[:MAX_HEADING_CHARS], HEADING, width)), _white(width, GAP)]
        for start in range(0, len(grid.columns), per_line):
            strips.append(_column_headings(width, left, grid.columns[start : start + per_line], side))
            for label, line in zip(grid.rows or [""], lines, strict=True):
                strip = _captioned(width, left, line[start : start + per_line], side)
                name = _text(left, _fitted(label, labels, side))
                strip.paste(name, (0, max(0, (side - name.height) // 2)))
                strips.append(strip)
            strips.append(_white(width, GAP))
        strips.append(_white(width, SECTION - 2 * GAP))
    return _stacked([*strips, _white(width, MARGIN - SECTION + 2 * GAP)])


def people_sheet(people: Sequence[SheetPerson], columns: Sequence[str]) -> Image.Image:
    """One contact sheet for each person, stacked. Raises DataError as `contact_sheet` does."""
    return _stacked([contact_sheet(person.references, person.rows, person.title, columns) for person in people])


def _reference_strips(width: int, references: Sequence[Pixels], side: int, per_row: int) -> list[Image.Image]:
    """How many photos were given, and the photos, `side` pixels wide and high, in rows of so many."""
    if not references:
        return []
    strips = [_text(width, [(f"{len(references)} photo{'s' * (len(references) > 1)} given", NOTE)]), _white(width, 12)]
    starts = range(0, len(references), per_row)
    strips += [_images(width, MARGIN, references[start : start + per_row], side) for start in starts]
    return [*strips, _white(width, SECTION - GAP)]


def _column_headings(width: int, left: int, headings: Sequence[str], side: int) -> Image.Image:
    """What stands above the images, down to the last line of the longest."""
    columns = [_fitted(heading, side, IMAGE) for heading in headings]
    lines = max(map(len, columns))
    strip = _white(width, lines * round(NOTE * LEADING) + 12)
    for index, column in enumerate(columns):
        for number, line in enumerate(column, lines - len(column)):
            _write(strip, left + index * (side + GAP), number * round(NOTE * LEADING), line)
    return strip


def _captioned(width: int, left: int, images: Sequence[SheetImage], side: int) -> Image.Image:
    """Images side by side with their captions below."""
    captions = _white(width, round(NOTE * LEADING))
    for index, image in enumerate(images):
        _write(captions, left + index * (side + GAP), 0, (image.caption, NOTE))
    return _stacked([_images(width, left, [image.pixels for image in images], side), captions, _white(width, GAP)])


def _fitted(text: str, width: int, height: int) -> list[Line]:
    """The text in lines of at most this width, as many as fit; what is cut off is three dots."""
    most = max(1, height // round(NOTE * LEADING))
    lines = _wrapped(text[:MAX_HEADING_CHARS], NOTE, width + 2 * MARGIN)
    if len(lines) > most or len(text) > MAX_HEADING_CHARS:
        lines = [*lines[: most - 1], (f"{lines[:most][-1][0]}...", NOTE)]
    return [(_cut(line, width), NOTE) for line, _ in lines]


def _cut(line: str, width: int) -> str:
    if _width(line, NOTE) <= width:
        return line
    while line and _width(f"{line}...", NOTE) > width:
        line = line[:-1]
    return f"{line}..."


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
