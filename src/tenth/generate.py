"""Identities and prompts -> a stream of samples. A seed is one image, whatever stands beside it."""

from __future__ import annotations

import json
import struct
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from torch import Tensor

from tenth.config import to_table
from tenth.diffusion import LatentDiffusion
from tenth.errors import DataError
from tenth.file_reading import UnreadableError, open_regular, parse_json, reason
from tenth.file_writing import write_png
from tenth.highres import HighRes, draw_sized
from tenth.memory import BATCH
from tenth.prompt import naming
from tenth.redraw import Scene
from tenth.sampling import Sampling, check, check_text
from tenth.types import Identity, Pixels, Sample

MOST_SAID = 100_000  # characters that a picture says of itself
PICTURE_BYTES = 1 << 28  # of a PNG: more than the largest pictures that are drawn have
BEGINNING = 1 << 21  # of these, in which everything stands that comes before the pixels
Progress = Callable[[int, int], None]  # (image-steps done, image-steps in all)


@dataclass(frozen=True, eq=False)
class Request:
    """One image to draw: who (None: nobody in particular), what, and from which noise.

    Raises RecipeError for a prompt that is no text, or a seed out of bounds (sampling.py).
    """

    identity: Identity | None
    prompt: str
    seed: int

    def __post_init__(self) -> None:
        check_text("prompt", self.prompt)
        check("seed", self.seed)


def generate(
    model: LatentDiffusion,
    requests: Sequence[Request],
    sampling: Sampling,
    batch: int = BATCH,
    progress: Progress | None = None,
    highres: HighRes | None = None,
) -> Iterator[Sample]:
    """One sample for each request, in order, as soon as its batch is drawn. People may be mixed in a batch.

    highres: another size than the model's own. Raises DataError for a size or strength that is not for the model, IdentityError
    for an identity of another model, before anything is drawn; ModelError where what is drawn is no longer a number.
    """
    for request in requests:
        check_request(model, request)
    each = steps_of(model, sampling, highres)
    done, total = 0, len(requests) * each
    for group in batches(model, requests, sampling.negative, batch):

        def steps_done(steps: int, before: int = done) -> None:
            if progress is not None:
                progress(before + steps, total)

        yield from _fitting(model, group, sampling, steps_done, highres)
        done += len(group) * each


def save_sample(sample: Sample, path: str | Path) -> None:
    """Write a PNG that says how to make it again: in our JSON and in the `parameters` text that other tools read.

    Neither names the person or a photo.
    """
    said = _said(sample.prompt, sample.seed, sample.method, sample.model) | dict(sample.settings)
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", json.dumps(said, sort_keys=True))
    info.add_text("parameters", _parameters(sample))
    write_png(path, Image.fromarray(sample.pixels), info)


def read_sample(path: str | Path) -> dict[str, Any]:
    """What `save_sample` wrote beside the pixels. Raises DataError if it is no PNG, or carries nothing of tenth's whole."""
    path = Path(path)
    said = _text_in(path)
    if not isinstance(said, str):
        raise _unusable(path, "carries no settings of tenth")
    try:
        settings = parse_json(said) if len(said) <= MOST_SAID else None
    except UnreadableError as problem:
        raise _unusable(path, f"carries damaged settings: what it says {problem}") from problem
    if not isinstance(settings, dict):
        raise _unusable(path, "carries damaged settings")
    return settings


def _text_in(path: Path) -> Any:
    """What a PNG says under our name. No pixel is decoded, and no more is read than stands before them."""
    try:
        with open_regular(path, PICTURE_BYTES) as file:
            beginning = BytesIO(file.read(BEGINNING))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(beginning, formats=["PNG"]) as image:
                return image.info.get("tenth")
    except UnreadableError as problem:
        raise _unusable(path, str(problem)) from problem
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, EOFError, struct.error) as problem:
        raise _unusable(path, "is not a PNG") from problem
    except OSError as problem:
        raise _unusable(path, reason(problem)) from problem
    except ValueError as problem:  # Pillow's limits of a text
        raise _unusable(path, f"carries a text that is too long ({problem})") from problem


def _unusable(path: Path, found: str) -> DataError:
    return DataError(f"{path} {found}", "a PNG as tenth wrote it is needed", "Choose another picture, or give the options")


def said_of(model: LatentDiffusion, request: Request, sampling: Sampling, highres: HighRes | None = None) -> dict[str, Any]:
    """What a request's picture says of itself, as far as it is known before it is drawn."""
    method = "none" if request.identity is None else request.identity.method
    large = {} if highres is None else highres.said(model)
    # In a picture face_pass is whether a face was drawn again, not whether it was asked for.
    known = {key: value for key, value in large.items() if key != "face_pass"}
    return _said(request.prompt, request.seed, method, model.name) | to_table(sampling) | known


def read_whole(path: Path) -> dict[str, Any] | None:
    """What a PNG of ours says of itself; None unless it is there and all of its pixels can be read."""
    try:
        with open_regular(path, PICTURE_BYTES) as file, Image.open(file, formats=["PNG"]) as image:
            image.load()
        return read_sample(path)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, DataError):
        return None


def _said(prompt: str, seed: int, method: str, model: str) -> dict[str, Any]:
    return {"prompt": prompt, "seed": seed, "method": method, "model": model, "tenth": version("tenth")}


def check_request(model: LatentDiffusion, request: Request) -> None:
    """Raises IdentityError for an identity of another model."""
    if request.identity is not None:
        model.check(request.identity)


def batches(model: LatentDiffusion, requests: Iterable[Request], negative: str, size: int) -> Iterator[list[Request]]:
    """Runs of at most `size` requests that can be drawn together: one adapter, embeddings of one shape, the same weights.

    And prompts read in as many parts: a short one beside a long one would get empty parts, and be another picture.
    """

    def kind(request: Request) -> tuple[object, ...]:
        return _kind(request.identity), model.texts.runs(_named(request), negative)

    for _, run in groupby(requests, key=kind):
        together = list(run)
        yield from (together[start : start + size] for start in range(0, len(together), size))


def _kind(identity: Identity | None) -> tuple[object, ...] | None:
    if identity is None:
        return None
    shape = None if identity.embeddings is None else tuple(identity.embeddings.shape)
    return identity.adapter, shape, id(identity.weights) if identity.weights else 0


def steps_of(model: LatentDiffusion, sampling: Sampling, highres: HighRes | None) -> int:
    """Of denoising, for each picture."""
    return sampling.steps if highres is None else highres.steps(model, sampling)


def _named(request: Request) -> str:
    return naming(request.prompt, request.identity.word) if request.identity else request.prompt


def _fitting(
    model: LatentDiffusion,
    group: list[Request],
    sampling: Sampling,
    on_done: Callable[[int], None],
    highres: HighRes | None,
) -> Iterator[Sample]:
    """The group's samples, as many at a time as the model's rung allows. on_done: told the image-steps done.

    Where a GPU's memory does not suffice the model goes a rung down and what is missing is drawn again, from the same seeds.
    """
    each = steps_of(model, sampling, highres)
    left = list(group)
    while left:
        part, done = left[: model.fit.rung.batch], (len(group) - len(left)) * each

        def steps_done(steps: int, before: int = done) -> None:
            on_done(before + steps)

        try:
            samples = list(_draw(model, part, sampling, steps_done, highres))
        except torch.OutOfMemoryError:
            samples = []  # the error holds on to what it was drawing: it has to be gone before the model moves
        if samples:
            yield from samples
            left = left[len(part) :]
        else:
            model.lower()


def _draw(
    model: LatentDiffusion,
    group: list[Request],
    sampling: Sampling,
    on_done: Callable[[int], None],
    highres: HighRes | None,
) -> Iterator[Sample]:
    start = time.perf_counter()
    prompts = list(map(_named, group))
    seeds = [request.seed for request in group]
    identities = [request.identity for request in group if request.identity is not None]

    def drawn(embeddings: Tensor | None) -> list[tuple[Pixels, dict[str, Any]]]:
        if highres is None:
            images = model.sample(prompts, seeds, sampling, embeddings, lambda step: on_done(len(group) * step))
            return [(pixels, {}) for pixels in images]
        sized = draw_sized(Scene(model, sampling, prompts, seeds, embeddings), highres, on_done)
        return [(pixels, highres.said(model) | {"face_pass": again}) for pixels, again in sized]

    if identities:
        with model.applied(identities) as embeddings:
            images = drawn(embeddings)
    else:
        images = drawn(None)
    seconds = (time.perf_counter() - start) / len(group)
    settings = to_table(sampling) | model.fit.recorded
    for request, (pixels, more) in zip(group, images, strict=True):
        method = "none" if request.identity is None else request.identity.method
        how = settings | more, seconds, model.sampler(sampling)
        yield Sample(pixels, request.prompt, request.seed, method, model.name, *how)


def _parameters(sample: Sample) -> str:
    settings = sample.settings
    lines = [sample.prompt]
    if settings["negative"]:
        lines.append(f"Negative prompt: {settings['negative']}")
    height, width = sample.pixels.shape[:2]
    said = {"Steps": settings["steps"], "Sampler": sample.sampler, "CFG scale": settings["guidance"], "Seed": sample.seed}
    said |= {"Size": f"{width}x{height}"}
    if len(settings.get("passes", [])) > 1:
        said |= {"Denoising strength": settings["strength"]}
    said |= {"Model": sample.model, "Method": sample.method, "Version": f"tenth {version('tenth')}"}
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in said.items()))
    return "\n".join(lines)


def _quoted(value: Any) -> str:
    """As A1111 writes a value with characters that would end it, and reads it back (modules/infotext_utils.py)."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ',:"\n') else text
