"""--prompt and --prompts -> the requests of `tenth generate`, before there is an identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tenth.cli.png_settings import MergedOptions
from tenth.core.errors import InputError, RecipeError
from tenth.core.types import Method
from tenth.methods.registry import method as find_method
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.bounds import check_setting
from tenth.sampling.generate import Request
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.prompts.completion import PromptCompletion
from tenth.sampling.prompts.rows import MAX_IMAGES, PromptRow
from tenth.sampling.prompts.styles import read_style
from tenth.sampling.prompts.wildcards import open_wildcards


@dataclass(frozen=True, eq=False)
class PlannedImage:
    """An image to generate: its row, and its request without the identity."""

    row: PromptRow
    request: Request


def open_completion(
    rows: Sequence[PromptRow], style: str | None, styles: Path | None, wildcards: Path | None
) -> PromptCompletion:
    """What is done to the prompts of rows. style: of those that do not say. styles: a file. wildcards: a folder.

    Raises InputError for a style that is not in the file, or a folder that is none.
    """
    names = dict.fromkeys(name for name in (style, *(row.style for row in rows)) if name)
    return PromptCompletion(style or "", {name: read_style(name, styles) for name in names}, open_wildcards(wildcards))


def plan_images(
    rows: Sequence[PromptRow],
    options: MergedOptions,
    num_images: int,
    complete: PromptCompletion,
    resize: Callable[[Size | None], HiresConfig | None],
) -> list[PlannedImage]:
    """The images of each row, one after the other: the first of a row has its seed, the next the next one.

    num_images: of a row that does not say. complete: what is done to prompts. resize: a row's size, None where it has none, ->
    how images come to it.
    Raises InputError, which names the row, for what no option would take, and for more images than a folder holds.
    """
    total = sum(row.num_images or num_images for row in rows)
    if total > MAX_IMAGES:
        raise RecipeError(f"{total:,} images", f"a folder holds at most {MAX_IMAGES:,}", "Ask for fewer, or divide the prompts")
    images = []
    for row in rows:
        first = options.seed if row.seed is None else row.seed
        seeds = range(first, first + (row.num_images or num_images))
        with _naming(row):
            check_setting("seed", seeds[-1])
            hires = resize(row.size)
            own_size = hires if hires != options.hires else None
            own_sampling = replace(options.sampling, **row.sampling) if row.sampling else None
            for seed in seeds:
                made = complete(row, seed, options.sampling.negative_prompt)
                own = None if made.negative_prompt == options.sampling.negative_prompt else made.negative_prompt
                request = Request(None, made.prompt, seed, options.start, own, own_size, made.metadata, sampling=own_sampling)
                images.append(PlannedImage(row, request))
    return images


@contextmanager
def _naming(row: PromptRow) -> Iterator[None]:
    """A block whose errors say which row they are about."""
    try:
        yield
    except InputError as problem:
        raise row.refused(problem) from problem


def methods_of_rows(images: Sequence[PlannedImage], default: str | None) -> dict[str | None, Method]:
    """The method of each row by its name, and by None the default one. default: None if the person is an identity.

    Raises InputError, which names the row, for an unknown method, or any where the person is an identity.
    """
    methods: dict[str | None, Method] = {}
    for row in {image.row.method: image.row for image in reversed(images)}.values():
        with _naming(row):
            if default is None and row.method is not None:
                raise RecipeError(f"the method {row.method!r}", "an identity file has its own", "Leave it out, or give photos")
            if default is not None:
                methods[row.method] = find_method(row.method or default)
    return methods


def largest_size(images: Sequence[PlannedImage], default: HiresConfig | None) -> HiresConfig | None:
    """The size of most pixels; None if all are the model's own. default: of what has none of its own."""
    sizes = [image.request.hires or default for image in images]
    return max((size for size in sizes if size), key=lambda size: size.size.area, default=None)


def check_sizes(images: Sequence[PlannedImage], model: LatentDiffusion) -> None:
    """Raises DataError, which names the row, if a row's size is one that the model does not generate."""
    for image in {image.request.hires: image for image in reversed(images)}.values():
        if image.request.hires:
            with _naming(image.row):
                image.request.hires.plan(model)
