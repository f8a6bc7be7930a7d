"""A score against the number of photos: a line for each method, its interval at each point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFont

from tenth.core.errors import DataError
from tenth.core.types import Score
from tenth.reporting.axis import tick_text, ticks

WIDTH, HEIGHT = 1200, 800  # pixels
FINE = 3  # drawn so many times larger and reduced, for smooth edges
LEFT, RIGHT, TOP, BOTTOM = 100, 850, 124, 700  # of the plot; the legend is at its right
APART = 130  # width of a condition with wrong photos, at the right of the numbers
INSET = 50  # from the plot's left edge to the fewest photos, from the most photos to the right edge
LEGEND, LEGEND_STEP = 885, 34
TITLE, TEXT, SMALL = 28, 19, 16  # sizes of the font
MARKER, THICK, THIN = 6.5, 3, 2  # radius; widths of the lines and of the intervals
WHITE, INK, GREY, RULE, BAND = (255, 255, 255), (17, 17, 17), (105, 105, 105), (228, 228, 228), (238, 238, 238)
# Okabe and Ito's colours, which people of all kinds of colour vision tell apart, without yellow, too pale on white.
COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (0, 0, 0))
# Markers as corners around the middle, radius 1; no corners: a circle. Their number differs from the colours', so that the
# two together distinguish 56 lines.
DIAGONAL = 0.82
PLUS = (0.33, 0.33, 1, 1, 0.33, 0.33, -0.33, -0.33, -1, -1, -0.33, -0.33)  # x of its corners; y is x, three corners earlier
SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-DIAGONAL, -DIAGONAL), (DIAGONAL, -DIAGONAL), (DIAGONAL, DIAGONAL), (-DIAGONAL, DIAGONAL)),
    ((0, -1.15), (1.05, 0.75), (-1.05, 0.75)),
    ((0, -1.3), (1.05, 0), (0, 1.3), (-1.05, 0)),
    ((0, 1.15), (1.05, -0.75), (-1.05, -0.75)),
    tuple((1.45 * r * math.sin(k * math.pi / 5), -1.45 * r * math.cos(k * math.pi / 5)) for k, r in enumerate([1, 0.42] * 5)),
    tuple((1.1 * math.sin(k * math.pi / 3), -1.1 * math.cos(k * math.pi / 3)) for k in range(6)),
    tuple((PLUS[k] * 1.2, PLUS[k - 3] * 1.2) for k in range(12)),
)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """One method. points: photos given -> score. apart: other conditions, by name, shown beside the curve."""

    label: str
    points: Mapping[int, Score]
    apart: Mapping[str, Score] = field(default_factory=dict)

    @property
    def scores(self) -> list[Score]:
        """All that have a value."""
        return [score for score in (*self.points.values(), *self.apart.values()) if score.value is not None]

    @property
    def last(self) -> float:
        """The score at the most photos, by which the legend is sorted."""
        value = self.points[max(self.points)].value
        return -math.inf if value is None else value


def curve(lines: Sequence[Line], floor: Score, title: str, note: str = "", axis: str = "identity similarity") -> Image.Image:
    """The picture, 1200 x 800. floor: what `no identity` scores, a dashed line. note: lines under the title, in grey.

    Where lines meet they stand side by side, so that each interval is seen. Raises DataError if no line has two points.
    """
    counts = sorted({count for line in lines for count in line.points})
    if len(counts) < 2:
        raise DataError(f"a curve over {len(counts)} numbers of photos", "two are needed", "Add counts to the recipe")
    apart = list(dict.fromkeys(name for line in lines for name in line.apart))
    ends = [end for score in (floor, *(score for line in lines for score in line.scores)) for end in _ends(score)]
    page = _Page(_Frame(counts, apart, len(lines), ticks(min(ends, default=0.0), max(ends, default=1.0))))
    page.frame(title, note, axis)
    page.floor(floor)
    for place, line in enumerate(lines):
        page.line(place, line)
    ranked = sorted(range(len(lines)), key=lambda place: -lines[place].last)
    page.legend([(place, lines[place].label) for place in ranked])
    return page.canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class _Frame:
    """Where values are, in pixels of the finished picture. lines: how many stand side by side. ticks: of the score."""

    counts: Sequence[int]
    apart: Sequence[str]
    lines: int
    ticks: Sequence[float]

    @property
    def right(self) -> int:
        """Where the numbers of photos end and the other conditions begin."""
        return RIGHT - APART * len(self.apart)

    def x(self, count: int) -> float:
        share = (count - self.counts[0]) / (self.counts[-1] - self.counts[0])
        return LEFT + INSET + share * (self.right - LEFT - 2 * INSET)

    def x_apart(self, name: str) -> float:
        return self.right + APART * (self.apart.index(name) + 0.5)

    def aside(self, place: int) -> float:
        """How far the place-th line stands beside the true number: over a third of the least step at most."""
        xs = [self.x(count) for count in self.counts]
        step = min(b - a for a, b in pairwise(xs))
        between = min(13, 0.62 * min(step, APART) / self.lines)
        return (place - (self.lines - 1) / 2) * between

    def y(self, value: float) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return BOTTOM - (value - low) / (high - low) * (BOTTOM - TOP)


class _Page:
    """The picture while it is drawn, FINE times larger; all numbers given are pixels of the finished one."""

    def __init__(self, frame: _Frame) -> None:
        self.at = frame
        self.canvas = Image.new("RGB", (WIDTH * FINE, HEIGHT * FINE), WHITE)
        self.pen = ImageDraw.Draw(self.canvas)

    def frame(self, title: str, note: str, axis: str) -> None:
        """Title, ticks, labels of the axes, and the space of the conditions apart."""
        self.text(LEFT, 46, title, TITLE, INK, "ls")
        for number, text in enumerate(note.split("\n")):
            self.text(LEFT, 76 + 23 * number, text, SMALL, GREY, "ls")
        for tick in self.at.ticks:
            y = self.at.y(tick)
            self.stroke([(LEFT, y), (RIGHT, y)], RULE, 1)
            self.text(LEFT - 12, y, tick_text(tick, self.at.ticks), TEXT, INK, "rm")
        for count in self.at.counts:
            self.stroke([(self.at.x(count), BOTTOM), (self.at.x(count), BOTTOM + 7)], INK, 2)
            self.text(self.at.x(count), BOTTOM + 14, str(count), TEXT, INK, "ma")
        for name in self.at.apart:
            self.dashes([(self.at.x_apart(name) - APART / 2, y) for y in (TOP, BOTTOM)], GREY, 1)
            for number, text in enumerate(name.split(", ")):
                self.text(self.at.x_apart(name), BOTTOM + 14 + 23 * number, text, TEXT, INK, "ma")
        self.stroke([(LEFT, TOP), (LEFT, BOTTOM), (RIGHT, BOTTOM)], INK, 2)
        self.text((LEFT + self.at.right) / 2, BOTTOM + 50, "photos given to the method", TEXT, INK, "ma")
        self.sideways(axis)

    def floor(self, score: Score) -> None:
        """A dashed line with its interval as a pale band."""
        if score.value is None:
            return
        low, high = min(_ends(score)), max(_ends(score))
        self.pen.rectangle(self.fine([(LEFT + 1, self.at.y(high)), (RIGHT, self.at.y(low))]), fill=BAND)
        self.dashes([(LEFT, self.at.y(score.value)), (RIGHT, self.at.y(score.value))], GREY, 2)

    def line(self, place: int, line: Line) -> None:
        """The intervals, the line between the points, the markers on top; hollow ones apart."""
        aside, colour = self.at.aside(place), COLOURS[place % len(COLOURS)]
        shown = [(self.at.x(count) + aside, score) for count, score in sorted(line.points.items()) if score.value is not None]
        apart = [(self.at.x_apart(name) + aside, score) for name, score in line.apart.items() if score.value is not None]
        for x, score in shown + apart:
            self.interval(x, score, colour)
        middles = [(x, self.at.y(score.value)) for x, score in shown + apart if score.value is not None]
        if shown:
            self.stroke(middles[: len(shown)], colour, THICK)
        for number, middle in enumerate(middles):
            self.marker(middle, place, hollow=number >= len(shown))

    def interval(self, x: float, score: Score, colour: Colour) -> None:
        ends = [self.at.y(end) for end in _ends(score)]
        self.stroke([(x, min(ends)), (x, max(ends))], colour, THIN)
        for y in (min(ends), max(ends)):
            self.stroke([(x - 4, y), (x + 4, y)], colour, THIN)

    def marker(self, at: tuple[float, float], place: int, hollow: bool = False) -> None:
        colour, shape = COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)]
        sizes: Iterable[tuple[float, Colour]] = ((MARKER + 1.5, WHITE), (MARKER, colour))
        sizes = (*sizes, (MARKER * 0.55, WHITE)) if hollow else sizes
        for size, fill in sizes:
            if shape:
                self.pen.polygon(self.fine([(at[0] + x * size, at[1] + y * size) for x, y in shape]), fill=fill)
            else:
                self.pen.ellipse(self.fine([(at[0] - size, at[1] - size), (at[0] + size, at[1] + size)]), fill=fill)

    def legend(self, labels: Sequence[tuple[int, str]]) -> None:
        """The lines from the highest to the lowest at the most photos, then the floor."""
        step = min(LEGEND_STEP, (BOTTOM - TOP) // (len(labels) + 3))
        rows: list[tuple[str, Callable[[float], None]]] = [(text, partial(self.sample, place)) for place, text in labels]
        rows.append(("no identity", lambda y: self.dashes([(LEGEND, y), (LEGEND + 44, y)], GREY, 2)))
        for number, (text, sign) in enumerate(rows):
            y = TOP + 12 + step * (number + 0.4 * (number >= len(labels)))
            sign(y)
            self.text(LEGEND + 56, y, _fitting(text, WIDTH - LEGEND - 56 - 16), SMALL + 1, INK, "lm")

    def sample(self, place: int, y: float) -> None:
        """A piece of the line, as the legend shows it."""
        self.stroke([(LEGEND, y), (LEGEND + 44, y)], COLOURS[place % len(COLOURS)], THICK)
        self.marker((LEGEND + 22, y), place)

    def fine(self, points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(x * FINE, y * FINE) for x, y in points]

    def stroke(self, points: Sequence[tuple[float, float]], colour: Colour, width: int) -> None:
        self.pen.line(self.fine(points), fill=colour, width=width * FINE, joint="curve")

    def dashes(self, ends: Sequence[tuple[float, float]], colour: Colour, width: int) -> None:
        (left, top), (right, bottom) = ends
        length, dash = max(1.0, math.hypot(right - left, bottom - top)), 8
        for start in range(0, round(length), 2 * dash):
            shares = (start / length, min(start + dash, length) / length)
            self.stroke([(left + share * (right - left), top + share * (bottom - top)) for share in shares], colour, width)

    def text(self, x: float, y: float, text: str, size: int, colour: Colour, anchor: str) -> None:
        self.pen.text((x * FINE, y * FINE), text, fill=colour, font=_font(size * FINE), anchor=anchor)

    def sideways(self, text: str) -> None:
        """The label of the vertical axis, from below to above."""
        font = _font(TEXT * FINE)
        left, top, right, bottom = font.getbbox(text)
        label = Image.new("RGB", (round(right - left), round(bottom - top)), WHITE)
        ImageDraw.Draw(label).text((-left, -top), text, fill=INK, font=font)
        label = label.rotate(90, expand=True)
        self.canvas.paste(label, (16 * FINE, round((TOP + BOTTOM) / 2 * FINE - label.height / 2)))


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)  # Aileron, which Pillow brings: the same letters on every machine


def _ends(score: Score) -> list[float]:
    """The value and its interval, what there is of them."""
    return [end for end in (score.low, score.value, score.high) if end is not None]


def _fitting(text: str, width: int) -> str:
    """The text, or as much of its end as fits, which of a path says most."""
    font, shown = _font((SMALL + 1) * FINE), text
    while font.getlength(shown) > width * FINE and len(text) > 1:
        text = text[1:]
        shown = f"…{text}"
    return shown
