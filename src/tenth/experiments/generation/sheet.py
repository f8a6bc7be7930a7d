"""sheet.png in a folder of `tenth generate`: the photos given, then the images with seed and identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tenth.core.files.png_metadata import read_sample
from tenth.core.marks.png import write_png
from tenth.core.types import Pixels
from tenth.core.wording import printable, shorten
from tenth.evaluation.image_set import load_image
from tenth.reporting.contact_sheet import IMAGE, SheetGrid, SheetImage, grid_sheet, image_sheet
from tenth.sampling.prompts.grid import Grid

MAX_IMAGES = 100  # of a sheet; the first ones
MAX_PROMPT_CHARS = 300


def write_sheet(
    path: Path,
    crops: Sequence[Pixels],
    images: Sequence[Path],
    figures: Mapping[str, Mapping[str, Any]],
    grid: Grid | None = None,
) -> None:
    """Write a sheet of the images on disk. crops: of the photos given. figures: of run.json, by the images' names."""
    sheet = grid_of_images(grid, crops, images, figures) if grid else _image_sheet(crops, images, figures)
    write_png(path, sheet)


def grid_of_images(
    grid: Grid, crops: Sequence[Pixels], images: Sequence[Path], figures: Mapping[str, Mapping[str, Any]]
) -> Image.Image:
    """A grid of all images, with the axes' values as headings and the identity of each."""
    settings = [read_sample(image) for image in images]
    cells = [SheetImage(_thumbnail(image), _identity(figures.get(image.name))) for image in images]
    headings = [[printable(heading) for heading in axis.headings] for axis in grid.axes]
    axes = " by ".join(axis.name.replace("_", " ") for axis in grid.axes)
    seed = _common(settings, "seed")
    parts = [_common(settings, "prompt") and f"{axes}, {len(images)} images", _made_by(settings), seed and f"seed {seed}"]
    title = shorten(printable(_common(settings, "prompt") or f"{axes}, {len(images)} images"))
    return grid_sheet(crops, SheetGrid(cells, *headings), f"{title}\n{' · '.join(filter(None, parts))}")


def _thumbnail(path: Path) -> Pixels:
    """The image no larger than it is shown: a thousand large ones would not fit in memory."""
    image = Image.fromarray(load_image(path))
    image.thumbnail((IMAGE, IMAGE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _image_sheet(crops: Sequence[Pixels], images: Sequence[Path], figures: Mapping[str, Mapping[str, Any]]) -> Image.Image:
    shown = images[:MAX_IMAGES]
    settings = [read_sample(image) for image in shown]
    groups: dict[str, list[SheetImage]] = {}
    for image, each in zip(shown, settings, strict=True):
        prompt = printable(each["prompt"])
        heading = prompt if len(prompt) <= MAX_PROMPT_CHARS else f"{prompt[:MAX_PROMPT_CHARS]} ..."
        caption = " · ".join(filter(None, (f"seed {each['seed']}", _identity(figures.get(image.name)))))
        groups.setdefault(heading, []).append(SheetImage(load_image(image), caption))

    # What they were made by, as far as it is the same for all.
    parts = [_made_by(settings)]
    if len(images) > len(shown):
        parts.append(f"the first {len(shown)} of {len(images):,} images")
    return image_sheet(crops, groups, " · ".join(filter(None, parts)))


def _made_by(settings: Sequence[Mapping[str, Any]]) -> str:
    parts = [_common(settings, "model").partition("@")[0], _common(settings, "method"), _common(settings, "steps")]
    parts[2] += " steps" if parts[2] else ""
    return " · ".join(filter(None, parts))


def _identity(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return ""
    return "no face" if figures["identity"] is None else f"identity {figures['identity']:.2f}"


def _common(settings: Sequence[Mapping[str, Any]], name: str) -> str:
    values = {str(each[name]) for each in settings}
    return values.pop() if len(values) == 1 else ""
