"""sheet.png in a folder of `tenth generate`: the photos given, then the images with seed and identity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenth.core.files.writing import write_png
from tenth.core.types import Pixels
from tenth.core.wording import printable
from tenth.evaluation.image_set import load_image
from tenth.reporting.contact_sheet import SheetImage, image_sheet
from tenth.sampling.png_metadata import read_sample

MAX_IMAGES = 100  # of a sheet; the first ones
MAX_PROMPT_CHARS = 300


def write_sheet(path: Path, crops: Sequence[Pixels], images: Sequence[Path], figures: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a sheet of the images on disk. crops: of the photos given. figures: of run.json, by the images' names."""
    shown = images[:MAX_IMAGES]
    settings = [read_sample(image) for image in shown]
    groups: dict[str, list[SheetImage]] = {}
    for image, each in zip(shown, settings, strict=True):
        prompt = printable(each["prompt"])
        heading = prompt if len(prompt) <= MAX_PROMPT_CHARS else f"{prompt[:MAX_PROMPT_CHARS]} ..."
        caption = f"seed {each['seed']}{_identity(figures.get(image.name))}"
        groups.setdefault(heading, []).append(SheetImage(load_image(image), caption))

    # What they were made by, as far as it is the same for all.
    parts = [_common(settings, "model").partition("@")[0], _common(settings, "method"), _common(settings, "steps")]
    parts[2] += " steps" if parts[2] else ""
    if len(images) > len(shown):
        parts.append(f"the first {len(shown)} of {len(images):,} images")
    write_png(path, image_sheet(crops, groups, " · ".join(filter(None, parts))))


def _identity(figures: Mapping[str, Any] | None) -> str:
    if figures is None:
        return ""
    return " · no face" if figures["identity"] is None else f" · identity {figures['identity']:.2f}"


def _common(settings: Sequence[Mapping[str, Any]], name: str) -> str:
    values = {str(each[name]) for each in settings}
    return values.pop() if len(values) == 1 else ""
