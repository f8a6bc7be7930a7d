"""A request, and rows of prompts -> the images to generate, before there is an identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tenth.core.errors import InputError, RecipeError
from tenth.core.types import DiffusionModel, Method
from tenth.experiments.generation.candidates import KeepBest
from tenth.experiments.generation.request import ImageRequest
from tenth.methods.registry import method as find_method
from tenth.sampling.bounds import check_setting
from tenth.sampling.generate import Request, check_request
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import Size
from tenth.sampling.passes.start_image import StartImage
from tenth.sampling.prompts.completion import PromptCompletion
from tenth.sampling.prompts.grid import Grid
from tenth.sampling.prompts.rows import MAX_IMAGES, PromptRow
from tenth.sampling.prompts.styles import read_style
from tenth.sampling.prompts.wildcards import open_wildcards


@dataclass(frozen=True, eq=False)
class PlannedImage:
    """An image to generate: its row, and its request without the identity."""

    row: PromptRow
    request: Request


@dataclass(frozen=True, eq=False)
class ImagePlan:
    """All images of a request, those of a row side by side.

    start: the picture that they start from. grid: whose cells they are.
    """

    request: ImageRequest
    images: tuple[PlannedImage, ...]
    start: StartImage | None = None
    grid: Grid | None = None

    @property
    def hires(self) -> HiresConfig | None:
        """The size of images whose row has none, None for the model's own."""
        return _resize(self.request, self.request.target_size) if self.request.size else None

    @property
    def keep(self) -> KeepBest | None:
        """How many of the candidates are kept, None: all."""
        asked = self.request
        return KeepBest(asked.candidates, asked.num_images, asked.keep_all) if asked.candidates else None

    @property
    def at_once(self) -> int:
        """How many images may be generated together: cells of a grid are what commands of their own would make."""
        return 1 if self.grid else len(self.images)

    @property
    def largest_size(self) -> HiresConfig | None:
        """The size of most pixels; None if all are the model's own."""
        sizes = [image.request.hires or self.hires for image in self.images]
        return max((size for size in sizes if size), key=lambda size: size.size.area, default=None)

    def check(self, model: DiffusionModel) -> None:
        """Raises InputError, which names the row, for a size, setting or prompt that the model does not support."""
        for image in self.images:
            with _naming(image.row):
                check_request(model, image.request, self.request.sampling, self.hires)
        if self.hires:
            self.hires.plan(model)
        for image in {image.request.hires: image for image in reversed(self.images)}.values():
            if image.request.hires:
                with _naming(image.row):
                    image.request.hires.plan(model)

    def methods(self, default: str | None) -> dict[str | None, Method]:
        """The method of each row by its name, and by None the default one. default: None if the person is an identity.

        Raises InputError, which names the row, for an unknown method, or any where the person is an identity.
        """
        methods: dict[str | None, Method] = {}
        for row in {image.row.method: image.row for image in reversed(self.images)}.values():
            with _naming(row):
                if default is None and row.method is not None:
                    needed = "an identity file has its own"
                    raise RecipeError(f"the method {row.method!r}", needed, "Leave it out, or give photos")
                if default is not None:
                    methods[row.method] = find_method(row.method or default)
        return methods


def plan_images(
    request: ImageRequest,
    rows: Sequence[PromptRow] = (),
    complete: PromptCompletion | None = None,
    start: StartImage | None = None,
    grid: Grid | None = None,
) -> ImagePlan:
    """The images of each row, one after the other: the first of a row has its seed, the next the next one.

    rows: prompts with settings of their own, instead of the request's. complete: what is done to prompts; None: the request's
    style, and wildcards without files. Raises InputError, which names the row, for what a request would not take, and for more
    images than a folder holds.
    """
    rows = rows or [PromptRow(prompt) for prompt in request.prompts]
    complete = complete or PromptCompletion(request.style, {request.style: read_style(request.style)} if request.style else {})
    if request.candidates and any(row.num_images for row in rows) and not grid:
        needed = "the rows of the prompts say how many images each has"
        raise RecipeError(f"{request.candidates} candidates", needed, "Leave out either")
    num_images = request.candidates or request.num_images
    total = sum(row.num_images or num_images for row in rows)
    if total > MAX_IMAGES:
        raise RecipeError(f"{total:,} images", f"a folder holds at most {MAX_IMAGES:,}", "Ask for fewer, or divide the prompts")

    # A request for each image, with what its row has of its own.
    plan, sampling = ImagePlan(request, (), start, grid), request.sampling
    images = []
    for row in rows:
        first = request.seed if row.seed is None else row.seed
        seeds = range(first, first + (row.num_images or num_images))
        with _naming(row):
            check_setting("seed", seeds[-1])
            size = _resize(request, row.size or request.target_size)
            own_size = None if size == plan.hires else size
            own_sampling = replace(sampling, **row.sampling) if row.sampling else None
            for seed in seeds:
                made = complete(row, seed, sampling.negative_prompt)
                own = None if made.negative_prompt == sampling.negative_prompt else made.negative_prompt
                image = Request(None, made.prompt, seed, start, own, own_size, made.metadata, sampling=own_sampling)
                images.append(PlannedImage(row, image))
    return replace(plan, images=tuple(images))


def open_start(request: ImageRequest, path_of: Callable[[str], Path] = Path) -> StartImage | None:
    """The picture that a request's images start from, None if there is none. path_of: where what the request names is.

    Raises PhotoError and DataError as `StartImage.open` does.
    """
    if not request.image:
        return None
    return StartImage.open(path_of(request.image), request.strength, path_of(request.mask) if request.mask else None)


def open_completion(
    rows: Sequence[PromptRow], style: str, styles: Path | None = None, wildcards: Path | None = None
) -> PromptCompletion:
    """What is done to the prompts of rows. style: of those that do not say, "" for none. styles: a file. wildcards: a folder.

    Raises InputError for a style that is not in the file, or a folder that is none.
    """
    names = dict.fromkeys(name for name in (style, *(row.style for row in rows)) if name)
    return PromptCompletion(style, {name: read_style(name, styles) for name in names}, open_wildcards(wildcards))


def _resize(request: ImageRequest, size: Size | None) -> HiresConfig | None:
    """How images come to a size; None: the model's own. Raises RecipeError for settings of a size where there is none."""
    if size is None:
        request.check_sized()
        return None
    return HiresConfig(size.width, size.height, request.hires_strength, request.face_detailer)


@contextmanager
def _naming(row: PromptRow) -> Iterator[None]:
    """A block whose errors say which row they are about."""
    try:
        yield
    except InputError as problem:
        raise row.refused(problem) from problem
