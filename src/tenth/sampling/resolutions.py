"""The size asked for -> the sizes at which a model draws a picture: first one that it was trained at. Imports nothing heavy."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tenth.core.errors import DataError

SIZE_MULTIPLE = 8  # pixels: the pipelines draw multiples of it
MAX_UPSCALE = 4  # times a trained size, on each side: beyond it nothing of the first picture says what the last should show
MAX_UPSCALE_PER_PASS = 2.0  # more is done in several passes: little noise does not reach blurs of many pixels
MIN_AREA_RATIO, MAX_AREA_RATIO, MAX_SIDE_RATIO = (
    0.75,
    1.25,
    1.25,
)  # of the trained square's, in which models trained on squares still draw well

# Of SDXL, in pixels: shorter side -> longer sides, both ways round. Podell et al. 2023, arXiv:2307.01952, appendix I, as two
# programs that repeat the list agree on it; the paper itself was not at hand.
SDXL_BUCKETS = {
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
SDXL_RESOLUTION = 1024


@dataclass(frozen=True)
class Size:
    """Of a picture, in pixels."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if any(side < SIZE_MULTIPLE or side % SIZE_MULTIPLE for side in (self.width, self.height)):
            raise DataError(
                f"the size {self}",
                f"both sides are to be multiples of {SIZE_MULTIPLE}, more than 0",
                f"Choose {self._nearest_valid()}, say",
            )

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def aspect_ratio(self) -> float:
        return self.width / self.height

    def _nearest_valid(self) -> str:
        return "x".join(
            str(max(SIZE_MULTIPLE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE)) for side in (self.width, self.height)
        )


def parse_size(text: str) -> Size:
    """'512' or '832x1216', width first -> Size. Raises DataError for anything else."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if not match:
        raise DataError(f"the size {text!r}", "a side such as 512, or WIDTHxHEIGHT such as 832x1216, is needed", "Correct it")
    return Size(int(match[1]), int(match[2] or match[1]))


@dataclass(frozen=True)
class ResolutionPlan:
    """How a picture comes to its size. base: drawn from noise. hires_sizes: each from the last, enlarged; then `final`."""

    base: Size
    hires_sizes: tuple[Size, ...]
    final: Size

    @property
    def passes(self) -> list[str]:
        """The size of each pass, in order."""
        return [str(size) for size in (self.base, *self.hires_sizes)]

    @property
    def cropped_fraction(self) -> float:
        """Share of the first picture that is cut off at its edges, because the shapes differ."""
        return 1 - min(self.base.aspect_ratio / self.final.aspect_ratio, self.final.aspect_ratio / self.base.aspect_ratio)

    def __str__(self) -> str:
        if self.final == self.base:
            return f"{self.final}: drawn at once"
        steps = ["drawn at " + self.passes[0], *(f"redrawn at {size}" for size in self.passes[1:])]
        if not self.hires_sizes:
            steps += ["enlarged" if self.final.area > self.base.area else "reduced"]
        steps += [f"{self.cropped_fraction:.0%} of it cut off at the edges"] if self.cropped_fraction > 0.005 else []
        return f"{self.final}: {', then '.join(steps[:2])}{''.join(', ' + more for more in steps[2:])}"


def plan_resolution(
    target: Size, native_sizes: Sequence[Size], native_resolution: int, *, refine: bool = True
) -> ResolutionPlan:
    """A trained size at once; another from the trained size nearest in shape, reduced, or enlarged and drawn again.

    native_sizes: what the model was trained at. native_resolution: of its square, in pixels. refine: without it nothing is
    drawn again. Raises DataError for a size that is too large.
    """
    if target in native_sizes:
        return ResolutionPlan(target, (), target)

    def shape_distance(size: Size) -> tuple[float, int]:
        return abs(math.log(size.aspect_ratio / target.aspect_ratio)), abs(size.area - native_resolution * native_resolution)

    base = min(native_sizes, key=shape_distance)
    upscale = max(target.width / base.width, target.height / base.height)
    if upscale > MAX_UPSCALE:
        raise DataError(
            f"the size {target} is {upscale:.1f} times {base}, at which this model draws",
            f"at most {MAX_UPSCALE} times is possible",
            "Choose a smaller size, or a model that draws larger",
        )
    hires_sizes = [target] if refine and upscale > 1 else []
    if hires_sizes and upscale > MAX_UPSCALE_PER_PASS:
        hires_sizes.insert(
            0, Size(*(max(1, round(length / 2 / SIZE_MULTIPLE)) * SIZE_MULTIPLE for length in (target.width, target.height)))
        )
    return ResolutionPlan(base, tuple(hires_sizes), target)


def single_square(resolution: int) -> list[Size]:
    """The square alone: of a model that was trained on aligned squares."""
    return [Size(resolution, resolution)]


def near_square_sizes(resolution: int) -> list[Size]:
    """Sizes at which a model trained on squares of any scene still draws well in one pass: 512 -> up to 640 on a side."""
    lengths = range(SIZE_MULTIPLE, math.floor(MAX_SIDE_RATIO * resolution) + 1, SIZE_MULTIPLE)
    pairs = [(width, height) for width in lengths for height in lengths]
    return [Size(*pair) for pair in pairs if MIN_AREA_RATIO <= pair[0] * pair[1] / resolution**2 <= MAX_AREA_RATIO]


def sdxl_sizes(resolution: int) -> list[Size]:
    """SDXL's sizes, for a model of its kind whose square has this side."""
    scaled = [
        [max(1, round(length * resolution / SDXL_RESOLUTION / SIZE_MULTIPLE)) * SIZE_MULTIPLE for length in pair]
        for shorter, longer in SDXL_BUCKETS.items()
        for pair in ((shorter, other) for other in longer)
    ]
    return [Size(*pair) for pair in dict.fromkeys(tuple(way) for pair in scaled for way in (pair, pair[::-1]))]
