"""A target size -> the sizes of the passes that reach it, the first one a size that the model was trained at. Light imports."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tenth.core.errors import DataError

SIZE_MULTIPLE = 8  # pixels: sides of generated images are multiples of it
MAX_UPSCALE = 4  # of a trained size, per side: beyond it the first image does not determine the last
MAX_UPSCALE_PER_PASS = 2.0  # more takes two passes: a little noise does not remove a blur of many pixels
MAX_CROPPED_FRACTION = (
    0.05  # of an image of another shape: where more would be cut off (hair, a chin), edges are filled instead
)
# Relative to the trained square, within which models trained on squares still work.
MIN_AREA_RATIO, MAX_AREA_RATIO, MAX_SIDE_RATIO = 0.75, 1.25, 1.25
# The same for transformers, which are trained on many shapes and sizes: half the side, and four times as long as high.
MIN_ANY_AREA_RATIO, MAX_ANY_ASPECT_RATIO = 0.25, 4

# SDXL's, in pixels: shorter side -> longer sides, in both orientations. Podell et al. 2023, arXiv:2307.01952, appendix I, as
# two programs repeat the list, which agree; the paper itself was not at hand.
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
    """Width and height of an image, in pixels. Raises DataError unless both are positive multiples of SIZE_MULTIPLE."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if any(side < SIZE_MULTIPLE or side % SIZE_MULTIPLE for side in (self.width, self.height)):
            nearest = "x".join(str(_nearest_multiple(side)) for side in (self.width, self.height))
            needed = f"both sides are to be multiples of {SIZE_MULTIPLE}, more than 0"
            raise DataError(f"the size {self}", needed, f"Choose {nearest}, say")

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def area(self) -> int:
        return self.width * self.height

    @property
    def aspect_ratio(self) -> float:
        return self.width / self.height


def _nearest_multiple(length: float, multiple: int = SIZE_MULTIPLE) -> int:
    return max(1, round(length / multiple)) * multiple


def parse_size(text: str) -> Size:
    """'512' or '832x1216', width first -> Size. Raises DataError for anything else."""
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if not match:
        raise DataError(f"the size {text!r}", "a side such as 512, or WIDTHxHEIGHT such as 832x1216, is needed", "Correct it")
    return Size(int(match[1]), int(match[2] or match[1]))


@dataclass(frozen=True)
class ResolutionPlan:
    """The passes to a size. base: generated from noise. hires_sizes: each upscaled from the last. final: resized to it.

    Of another shape, the first image is cropped a little, or else padded (`is_padded`): nothing of the person is cut off.
    """

    base: Size
    hires_sizes: tuple[Size, ...]
    final: Size

    @property
    def passes(self) -> list[str]:
        """The size of each pass, in order."""
        return [str(size) for size in (self.base, *self.hires_sizes)]

    @property
    def cropped_fraction(self) -> float:
        """Fraction of the first image that does not fit, because its shape differs from the final one."""
        ratio = self.base.aspect_ratio / self.final.aspect_ratio
        return 1 - min(ratio, self.final.aspect_ratio / self.base.aspect_ratio)

    @property
    def is_padded(self) -> bool:
        """Whether the first image is shown whole and its edges continued, because cropping would take too much of it."""
        return self.cropped_fraction > MAX_CROPPED_FRACTION

    def __str__(self) -> str:
        if self.final == self.base:
            return f"{self.final}: generated in one pass"
        steps = ["generated at " + self.passes[0], *(f"generated again at {size}" for size in self.passes[1:])]
        if not self.hires_sizes:
            steps.append("enlarged" if self.final.area > self.base.area else "reduced")
        if self.is_padded:
            edges = "left and right" if self.final.aspect_ratio > self.base.aspect_ratio else "above and below"
            steps.append(f"filled {edges}")
        elif self.cropped_fraction > 0.005:
            steps.append(f"{self.cropped_fraction:.0%} of it cut off at the edges")
        first, second, *more = steps
        return ", ".join([f"{self.final}: {first}, then {second}", *more])


def nearest_shape(aspect_ratio: float, native_sizes: Sequence[Size], native_resolution: int) -> Size:
    """The trained size nearest in shape to width / height; of several, the one nearest in area to the trained square."""

    def shape_distance(size: Size) -> tuple[float, int]:
        return abs(math.log(size.aspect_ratio / aspect_ratio)), abs(size.area - native_resolution * native_resolution)

    return min(native_sizes, key=shape_distance)


def plan_resolution(
    target: Size,
    native_sizes: Sequence[Size],
    native_resolution: int,
    *,
    refine: bool = True,
    multiple: int = SIZE_MULTIPLE,
) -> ResolutionPlan:
    """One pass at a trained size; any other size starts from the trained size nearest in shape.

    native_sizes: those the model was trained at. native_resolution: side of its square, in pixels. refine: whether upscaled
    images are denoised again, at sides of this multiple. Raises DataError for a size that is too large.
    """
    if target in native_sizes:
        return ResolutionPlan(target, (), target)
    base = nearest_shape(target.aspect_ratio, native_sizes, native_resolution)
    upscale = min(target.width / base.width, target.height / base.height)
    if upscale > MAX_UPSCALE:
        raise DataError(
            f"the size {target} is {upscale:.1f} times {base}, which this model generates",
            f"at most {MAX_UPSCALE} times is possible",
            "Choose a smaller size, or a model of larger images",
        )
    upscale = max(target.width / base.width, target.height / base.height)
    hires_sizes = [Size(*(-(-side // multiple) * multiple for side in (target.width, target.height)))] if upscale > 1 else []
    if not refine:
        hires_sizes = []
    if hires_sizes and upscale > MAX_UPSCALE_PER_PASS:
        hires_sizes.insert(0, Size(*(_nearest_multiple(side / 2, multiple) for side in (target.width, target.height))))
    return ResolutionPlan(base, tuple(hires_sizes), target)


def single_square(resolution: int) -> list[Size]:
    """The square alone: for a model trained on aligned squares."""
    return [Size(resolution, resolution)]


def near_square_sizes(resolution: int) -> list[Size]:
    """Sizes at which a model trained on squares still works in one pass: 512 -> up to 640 per side."""
    lengths = range(SIZE_MULTIPLE, math.floor(MAX_SIDE_RATIO * resolution) + 1, SIZE_MULTIPLE)
    pairs = [(width, height) for width in lengths for height in lengths]
    return [Size(*pair) for pair in pairs if MIN_AREA_RATIO <= pair[0] * pair[1] / resolution**2 <= MAX_AREA_RATIO]


def sdxl_sizes(resolution: int) -> list[Size]:
    """SDXL's sizes in both orientations, scaled for a model of its kind whose square has this side."""
    scale = resolution / SDXL_RESOLUTION
    pairs = [(shorter, longer) for shorter, longer_sides in SDXL_BUCKETS.items() for longer in longer_sides]
    sizes = [Size(_nearest_multiple(shorter * scale), _nearest_multiple(longer * scale)) for shorter, longer in pairs]
    return list(dict.fromkeys(size for each in sizes for size in (each, Size(each.height, each.width))))


def any_aspect_sizes(resolution: int, multiple: int) -> list[Size]:
    """Sizes of any shape, in steps of a transformer's patches: 1024 -> 512 to 2288 per side, of at most 1.25 times its area."""
    longest = math.isqrt(round(MAX_AREA_RATIO * MAX_ANY_ASPECT_RATIO * resolution**2))
    sides = range(multiple, longest + 1, multiple)
    pairs = [
        (width, height)
        for width in sides
        for height in sides
        if max(width, height) <= MAX_ANY_ASPECT_RATIO * min(width, height)
    ]
    areas = MIN_ANY_AREA_RATIO * resolution**2, MAX_AREA_RATIO * resolution**2
    return [Size(*pair) for pair in pairs if areas[0] <= pair[0] * pair[1] <= areas[1]]
