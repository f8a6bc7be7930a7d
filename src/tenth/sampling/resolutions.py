"""The size asked for -> the sizes at which a model draws a picture: first one that it was trained at. Imports nothing heavy."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tenth.core.errors import DataError

STEP = 8  # pixels: the pipelines draw multiples of it
MOST_LARGER = 4  # times a trained size, on each side: beyond it nothing of the first picture says what the last should show
LARGER_AT_ONCE = 2.0  # more is done in several passes: little noise does not reach blurs of many pixels
LEAST_AREA, MOST_AREA, LONGEST = 0.75, 1.25, 1.25  # of the trained square's, in which models trained on squares still draw well

# Of SDXL, in pixels: shorter side -> longer sides, both ways round. Podell et al. 2023, arXiv:2307.01952, appendix I, as two
# programs that repeat the list agree on it; the paper itself was not at hand.
MULTI_ASPECT = {
    512: (2048, 1984, 1920, 1856),
    576: (1792, 1728, 1664),
    640: (1600, 1536),
    704: (1472, 1408, 1344),
    768: (1344, 1280),
    832: (1216, 1152),
    896: (1152, 1088),
    960: (1088, 1024),
    1024: (1024,),
}
MULTI_ASPECT_SIDE = 1024


@dataclass(frozen=True)
class Size:
    """Of a picture, in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if any(side < STEP or side % STEP for side in (self.width, self.height)):
            raise DataError(
                f"the size {self}", f"both sides are to be multiples of {STEP}, more than 0", f"Choose {self._nearest()}, say"
            )

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def ratio(self) -> float:
        return self.width / self.height

    def _nearest(self) -> str:
        return "x".join(str(max(STEP, round(side / STEP) * STEP)) for side in (self.width, self.height))


def parse_size(text: str) -> Size:
    """'512' or '832x1216', width first -> Size. Raises DataError for anything else."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if not found:
        raise DataError(f"the size {text!r}", "a side such as 512, or WIDTHxHEIGHT such as 832x1216, is needed", "Correct it")
    return Size(int(found[1]), int(found[2] or found[1]))


@dataclass(frozen=True)
class Plan:
    """How a picture comes to its size. first: drawn from noise. redrawn: each from the one before, enlarged; then `final`."""

    first: Size
    redrawn: tuple[Size, ...]
    final: Size

    @property
    def passes(self) -> list[str]:
        """The size of each pass, in order."""
        return [str(size) for size in (self.first, *self.redrawn)]

    @property
    def cut(self) -> float:
        """Share of the first picture that is cut off at its edges, because the shapes differ."""
        return 1 - min(self.first.ratio / self.final.ratio, self.final.ratio / self.first.ratio)

    def __str__(self) -> str:
        if self.final == self.first:
            return f"{self.final}: drawn at once"
        how = ["drawn at " + self.passes[0], *(f"redrawn at {size}" for size in self.passes[1:])]
        if not self.redrawn:
            how += ["enlarged" if self.final.area > self.first.area else "reduced"]
        how += [f"{self.cut:.0%} of it cut off at the edges"] if self.cut > 0.005 else []
        return f"{self.final}: {', then '.join(how[:2])}{''.join(', ' + more for more in how[2:])}"


def plan(asked: Size, trained: Sequence[Size], side: int, *, again: bool = True) -> Plan:
    """A trained size at once; another from the trained size nearest in shape, reduced, or enlarged and drawn again.

    trained: what the model was trained at. side: of its square, in pixels. again: without it nothing is drawn again.
    Raises DataError for a size that is too large.
    """
    if asked in trained:
        return Plan(asked, (), asked)

    def unlike(size: Size) -> tuple[float, int]:
        return abs(math.log(size.ratio / asked.ratio)), abs(size.area - side * side)

    first = min(trained, key=unlike)
    larger = max(asked.width / first.width, asked.height / first.height)
    if larger > MOST_LARGER:
        raise DataError(
            f"the size {asked} is {larger:.1f} times {first}, at which this model draws",
            f"at most {MOST_LARGER} times is possible",
            "Choose a smaller size, or a model that draws larger",
        )
    redrawn = [asked] if again and larger > 1 else []
    if redrawn and larger > LARGER_AT_ONCE:
        redrawn.insert(0, Size(*(max(1, round(length / 2 / STEP)) * STEP for length in (asked.width, asked.height))))
    return Plan(first, tuple(redrawn), asked)


def squares(side: int) -> list[Size]:
    """The square alone: of a model that was trained on aligned squares."""
    return [Size(side, side)]


def about_square(side: int) -> list[Size]:
    """Sizes at which a model trained on squares of any scene still draws well in one pass: 512 -> up to 640 on a side."""
    lengths = range(STEP, math.floor(LONGEST * side) + 1, STEP)
    pairs = [(width, height) for width in lengths for height in lengths]
    return [Size(*pair) for pair in pairs if LEAST_AREA <= pair[0] * pair[1] / side**2 <= MOST_AREA]


def multi_aspect(side: int) -> list[Size]:
    """SDXL's sizes, for a model of its kind whose square has this side."""
    scaled = [
        [max(1, round(length * side / MULTI_ASPECT_SIDE / STEP)) * STEP for length in pair]
        for shorter, longer in MULTI_ASPECT.items()
        for pair in ((shorter, other) for other in longer)
    ]
    return [Size(*pair) for pair in dict.fromkeys(tuple(way) for pair in scaled for way in (pair, pair[::-1]))]
