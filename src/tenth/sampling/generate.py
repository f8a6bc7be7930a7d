"""Identities and prompts -> a stream of samples. A seed is one image, whatever stands beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from tenth.core.config import to_table
from tenth.core.types import Identity, Pixels, Sample
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import BATCH
from tenth.sampling.config import Sampling, check, check_text
from tenth.sampling.hires import HighRes, draw_sized
from tenth.sampling.img2img import Scene
from tenth.sampling.png_metadata import _said
from tenth.sampling.prompts import naming
from tenth.sampling.sampler import sample, sampler_name

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


def said_of(model: LatentDiffusion, request: Request, sampling: Sampling, highres: HighRes | None = None) -> dict[str, Any]:
    """What a request's picture says of itself, as far as it is known before it is drawn."""
    method = "none" if request.identity is None else request.identity.method
    large = {} if highres is None else highres.said(model)
    # In a picture face_pass is whether a face was drawn again, not whether it was asked for.
    known = {key: value for key, value in large.items() if key != "face_pass"}
    return _said(request.prompt, request.seed, method, model.name) | to_table(sampling) | known


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
            images = sample(model, prompts, seeds, sampling, embeddings, lambda step: on_done(len(group) * step))
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
        how = settings | more, seconds, sampler_name(model, sampling)
        yield Sample(pixels, request.prompt, request.seed, method, model.name, *how)
