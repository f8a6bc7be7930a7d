"""Identities and prompts -> a stream of samples. A seed is one image, whatever stands beside it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image, PngImagePlugin
from torch import Tensor

from tenth.diffusion import LatentDiffusion, Sampling
from tenth.errors import DataError
from tenth.highres import HighRes, draw_sized
from tenth.prompt import naming
from tenth.redraw import Scene
from tenth.types import Identity, Pixels, Sample

BATCH = 4  # images at a time: on two cores larger batches are no faster
LARGEST_SEED = 2**63 - 1
Progress = Callable[[int, int], None]  # (image-steps done, image-steps in all)


@dataclass(frozen=True, eq=False)
class Request:
    """One image to draw: who (None: nobody in particular), what, and from which noise."""

    identity: Identity | None
    prompt: str
    seed: int


def generate(
    model: LatentDiffusion,
    requests: Sequence[Request],
    sampling: Sampling,
    batch: int = BATCH,
    progress: Progress | None = None,
    highres: HighRes | None = None,
) -> Iterator[Sample]:
    """One sample for each request, in order, as soon as its batch is drawn. People may be mixed in a batch.

    highres: another size than the model's own. Raises DataError for a seed out of range or a size that is too large,
    IdentityError for an identity of another model, before anything is drawn.
    """
    for request in requests:
        _check(model, request)
    each = sampling.steps if highres is None else highres.steps(model, sampling)
    done, total = 0, len(requests) * each
    for group in _batches(requests, batch):

        def steps_done(steps: int, before: int = done) -> None:
            if progress is not None:
                progress(before + steps, total)

        yield from _draw(model, group, sampling, steps_done, highres)
        done += len(group) * each


def save_sample(sample: Sample, path: Path) -> None:
    """Write a PNG that says how to make it again: in our JSON and in the `parameters` text that other tools read.

    Neither names the person or a photo.
    """
    said = {"prompt": sample.prompt, "seed": sample.seed, "method": sample.method, "model": sample.model}
    said |= {"tenth": version("tenth"), **sample.settings}
    info = PngImagePlugin.PngInfo()
    info.add_text("tenth", json.dumps(said, sort_keys=True))
    info.add_text("parameters", _parameters(sample))
    partial = path.with_name(f".{path.name}.partial")
    Image.fromarray(sample.pixels).save(partial, format="PNG", pnginfo=info)
    partial.replace(path)


def read_sample(path: Path) -> dict[str, Any]:
    """What `save_sample` wrote beside the pixels. Raises DataError if the picture carries nothing of tenth's."""
    with Image.open(path, formats=["PNG"]) as image:
        said = image.info.get("tenth")
    if not isinstance(said, str):
        raise DataError(f"{path} carries no settings of tenth", "a PNG that tenth wrote is needed", "Choose another file")
    settings: dict[str, Any] = json.loads(said)
    return settings


def _check(model: LatentDiffusion, request: Request) -> None:
    if not 0 <= request.seed <= LARGEST_SEED:
        raise DataError(f"the seed {request.seed}", f"a whole number from 0 to {LARGEST_SEED} is needed", "Choose another")
    if request.identity is not None:
        model.check(request.identity)


def _batches(requests: Iterable[Request], size: int) -> Iterator[list[Request]]:
    """Runs of at most `size` requests that can be drawn together: one adapter, embeddings of one shape, the same weights."""
    for _, run in groupby(requests, key=_kind):
        together = list(run)
        yield from (together[start : start + size] for start in range(0, len(together), size))


def _kind(request: Request) -> tuple[object, ...] | None:
    identity = request.identity
    if identity is None:
        return None
    shape = None if identity.embeddings is None else tuple(identity.embeddings.shape)
    return identity.adapter, shape, id(identity.weights) if identity.weights else 0


def _draw(
    model: LatentDiffusion,
    group: list[Request],
    sampling: Sampling,
    on_done: Callable[[int], None],
    highres: HighRes | None,
) -> Iterator[Sample]:
    start = time.perf_counter()
    prompts = [naming(request.prompt, request.identity.word) if request.identity else request.prompt for request in group]
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
    for request, (pixels, more) in zip(group, images, strict=True):
        method = "none" if request.identity is None else request.identity.method
        yield Sample(pixels, request.prompt, request.seed, method, model.name, asdict(sampling) | more, seconds)


def _parameters(sample: Sample) -> str:
    settings = sample.settings
    lines = [sample.prompt]
    if settings["negative"]:
        lines.append(f"Negative prompt: {settings['negative']}")
    height, width = sample.pixels.shape[:2]
    again = f"Denoising strength: {settings['strength']}, " if len(settings.get("passes", [])) > 1 else ""
    lines.append(
        f"Steps: {settings['steps']}, Sampler: DDIM, CFG scale: {settings['guidance']}, Seed: {sample.seed}, "
        f"Size: {width}x{height}, {again}Model: {sample.model}, Method: {sample.method}, Version: tenth {version('tenth')}"
    )
    return "\n".join(lines)
