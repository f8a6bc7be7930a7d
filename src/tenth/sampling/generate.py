"""Requests -> a stream of samples. The seed alone decides an image's noise, whatever else is in its batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor

from tenth.core.config import to_table
from tenth.core.errors import DataError
from tenth.core.files.png_metadata import base_metadata
from tenth.core.types import DiffusionModel, Identity, Pixels, Sample
from tenth.models.denoiser import stack_contexts
from tenth.models.memory.profiles import DEFAULT_BATCH_SIZE
from tenth.sampling.bounds import check_prompt, check_setting
from tenth.sampling.checks import check_people, check_settings
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.hires import HiresConfig, generate_at_size
from tenth.sampling.passes.start_image import StartImage, begin_with, fit_region, paste_back
from tenth.sampling.people import BatchRegions, PlacedPerson, combine_people, num_rows, people_metadata
from tenth.sampling.prompts.trigger_phrase import insert_trigger_phrase
from tenth.sampling.sampler import OnStep, SamplingBatch, Step, img2img_steps, sample
from tenth.sampling.schedulers import SCHEDULERS, a1111_name


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a series of images is. done, total: image-steps. step: the last one, which may be asked for a preview."""

    done: int
    total: int
    step: Step | None = None


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Request:
    """One image to generate. identity: None for an image of nobody in particular. seed: of its noise.

    start: a picture that it starts from; None: pure noise. sampling, negative_prompt, hires: None for those of the call; a
    negative prompt goes before the one of sampling. metadata: more that its PNG records, such as the template of its prompt.
    people: those in the image, each in a region, instead of an identity; then `identity` is that of all of them together.

    Raises RecipeError for a prompt that is no text, or a seed out of range (sampling/config.py), IdentityError for people who
    cannot be in one image, DataError for an identity beside people.
    """

    identity: Identity | None
    prompt: str
    seed: int
    start: StartImage | None = None
    negative_prompt: str | None = None
    hires: HiresConfig | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    people: Sequence[PlacedPerson] = ()
    sampling: SamplingConfig | None = None

    def __post_init__(self) -> None:
        check_prompt("prompt", self.prompt)
        check_prompt("negative_prompt", self.negative_prompt or "")
        check_setting("seed", self.seed)
        if self.people:
            together = combine_people(self.people)
            if self.identity is not None and self.identity.fingerprint != together.fingerprint:
                needed = "an image is of one identity, or of people in regions"
                raise DataError("a request with an identity and with people", needed, "Leave out the identity")
            object.__setattr__(self, "identity", together)

    def settings(self, sampling: SamplingConfig, hires: HiresConfig | None) -> tuple[SamplingConfig, HiresConfig | None]:
        """The settings of a call, with what this request has instead. What that leaves open of a model's own is the call's.

        With people no face is made again: it would be of all.
        """
        if self.sampling is not None:
            sampling = self.sampling.completed_by(sampling)
        if self.negative_prompt is not None:
            sampling = replace(sampling, negative_prompt=self.negative_prompt)
        hires = self.hires or hires
        return sampling, replace(hires, face_detailer=False) if hires and self.people else hires

    @property
    def recorded(self) -> dict[str, Any]:
        """What its PNG records of it beside prompt, seed and settings."""
        started = {} if self.start is None else self.start.metadata
        photos = {"photos": list(self.identity.photos)} if self.identity and self.identity.context else {}
        return started | photos | people_metadata(self.people) | dict(self.metadata)

    def backend(self, model: DiffusionModel, precision: str) -> str:
        """What it is computed by: compiled networks know no regions."""
        return "torch" if self.people else model.backend_name(self.identity, precision)


def generate(
    model: DiffusionModel,
    requests: Sequence[Request],
    sampling: SamplingConfig,
    batch: int = DEFAULT_BATCH_SIZE,
    on_progress: OnProgress | None = None,
    hires: HiresConfig | None = None,
) -> Iterator[Sample]:
    """One sample for each request, in order, as soon as its batch is done. A batch may mix people.

    hires: a size other than the model's own. Raises DataError for a size, strength or mask that the model does not support,
    IdentityError for an identity of another model, before anything is generated; ModelError if a value is not finite.
    """
    sampling = sampling.for_model(model)
    for request in requests:
        check_request(model, request, sampling, hires)
    steps = [request_steps(model, request, sampling, hires) for request in requests]
    counter, finished = _StepCounter(sum(steps), on_progress), accumulate(steps)
    for group in batch_requests(model, requests, sampling, batch):
        for made in _generate_within_memory(model, group, *group[0].settings(sampling, hires), counter):
            counter.settle(max(counter.done, next(finished)))  # passes may have been left out
            yield made


class _StepCounter:
    """Counts the image-steps that are done, over all batches."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self.total, self.on_progress, self.done = total, on_progress, 0

    def __call__(self, step: Step) -> None:
        """A step of a batch is done."""
        self.settle(min(self.done + len(step.prediction), self.total), step)

    def settle(self, done: int, step: Step | None = None) -> None:
        """So many are done."""
        changed, self.done = done != self.done, done
        if changed and self.on_progress is not None:
            self.on_progress(Progress(done, self.total, step))


def expected_metadata(
    model: DiffusionModel, request: Request, sampling: SamplingConfig, hires: HiresConfig | None = None
) -> dict[str, Any]:
    """The settings that a request's PNG will have, as far as they are known before it is generated."""
    method = "none" if request.identity is None else request.identity.method
    sampling, hires = request.settings(sampling.for_model(model), hires)
    hires_metadata = {} if hires is None else hires.metadata(model)
    # In a PNG, face_detailed says whether a face was generated again, not whether it was asked for.
    known = {key: value for key, value in hires_metadata.items() if key != "face_detailed"}
    known |= {"backend": request.backend(model, sampling.precision)} | request.recorded
    return base_metadata(request.prompt, request.seed, method, model.name) | to_table(sampling) | known


def check_request(model: DiffusionModel, request: Request, sampling: SamplingConfig, hires: HiresConfig | None = None) -> None:
    """Raises IdentityError for an identity of another model, DataError for a mask with another size, or out of reach.

    DataError also for people in regions on a model or with options that do not support them, RecipeError for settings or a
    prompt that the model does not read.
    """
    check_settings(model, request.settings(sampling, None)[0], request.prompt)
    if request.identity is not None:
        model.validate(request.identity)
    hires = request.hires or hires
    if request.people:
        check_people(model, request.people, request.start, hires)
    if request.start is not None and request.start.mask is not None:
        if hires is not None:
            needed = "what a mask keeps stays at the picture's own size"
            raise DataError(f"a mask and the size {hires.size}", needed, "Leave out the size")
        fit_region(model, request.start)


def batch_requests(
    model: DiffusionModel, requests: Iterable[Request], sampling: SamplingConfig, size: int
) -> Iterator[list[Request]]:
    """Runs of at most `size` requests that can share a batch, each run without a gap in the requests."""
    for _, run in groupby(requests, key=lambda request: _batch_key(model, request, sampling)):
        run_requests = list(run)
        yield from (run_requests[start : start + size] for start in range(0, len(run_requests), size))


def batch_order(model: DiffusionModel, requests: Sequence[Request], sampling: SamplingConfig) -> list[int]:
    """The requests' indices, those that can share a batch side by side; in the order of the first of each."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(_batch_key(model, request, sampling), []).append(index)
    return [index for group in groups.values() for index in group]


def _batch_key(model: DiffusionModel, request: Request, sampling: SamplingConfig) -> tuple[object, ...]:
    """What requests of one batch share: adapter, weights, shape of embeddings, sampling, size and prompt chunks.

    A short prompt beside a long one would be padded with empty chunks, and become another image.
    """
    own = request.settings(sampling, None)[0]
    num_chunks = model.prompt_encoder.num_chunks(_full_prompt(request), own.negative_prompt)
    start = None if request.start is None else request.start.batch_key
    return _identity_key(request.identity), repr(own), request.hires, num_chunks, start, num_rows(request.people)


def _identity_key(identity: Identity | None) -> tuple[object, ...] | None:
    if identity is None:
        return None
    read = {"": identity.embeddings, **identity.context}
    shapes = tuple(sorted((name, tuple(tensor.shape)) for name, tensor in read.items() if tensor is not None))
    return identity.adapter, shapes, identity.weights_digest


def request_steps(model: DiffusionModel, request: Request, sampling: SamplingConfig, hires: HiresConfig | None) -> int:
    """Denoising steps of an image."""
    (sampling, hires), start = request.settings(sampling, hires), request.start
    steps = sampling.steps or model.default_sampling.steps
    skipped = 0 if start is None else steps - img2img_steps(steps, start.resolved_strength)
    return (steps if hires is None else hires.num_steps(model, sampling)) - skipped


def _full_prompt(request: Request) -> str:
    return insert_trigger_phrase(request.prompt, request.identity.trigger_phrase) if request.identity else request.prompt


def _generate_within_memory(
    model: DiffusionModel, group: list[Request], sampling: SamplingConfig, hires: HiresConfig | None, counter: _StepCounter
) -> Iterator[Sample]:
    """The group's samples, as many at a time as the memory profile allows.

    If a GPU's memory does not suffice, the model goes to the next profile, and missing images are generated from their seeds.
    """
    remaining = list(group)
    while remaining:
        chunk, done_before = remaining[: model.memory_plan.profile.batch_size], counter.done
        try:
            samples = list(_generate_batch(model, chunk, sampling, hires, counter))
        except torch.OutOfMemoryError:
            samples = []  # the error references tensors: it must be gone before the model is moved
        if samples:
            yield from samples
            remaining = remaining[len(chunk) :]
        else:
            counter.settle(done_before)
            model.reduce_memory()


def _generate_batch(
    model: DiffusionModel, group: list[Request], sampling: SamplingConfig, hires: HiresConfig | None, on_step: OnStep
) -> Iterator[Sample]:
    start = time.perf_counter()
    identities = [request.identity for request in group if request.identity is not None]
    prompts, seeds = list(map(_full_prompt, group)), [request.seed for request in group]

    starts = [request.start for request in group if request.start is not None]  # of none, or of all
    size = None if hires is None else hires.plan(model).base
    regions = [fit_region(model, start, size) for start in starts]

    def sample_images(embeddings: Tensor | None) -> list[tuple[Pixels, dict[str, Any]]]:
        """Images, and the settings that each of them has beside the others'."""
        placed = BatchRegions.of([request.people for request in group])
        to_generate = SamplingBatch(model, sampling, prompts, seeds, embeddings, regions=placed)
        to_generate = replace(to_generate, context=stack_contexts(identities))
        if starts:
            to_generate = begin_with(to_generate, starts, regions)
        if hires is not None:
            sized = generate_at_size(to_generate, hires, on_step)
            return [(pixels, hires.metadata(model) | {"face_detailed": detailed}) for pixels, detailed in sized]
        made = sample(to_generate, on_step)
        if starts:
            made = [paste_back(*each) for each in zip(starts, regions, made, strict=True)]
        return [(pixels, {}) for pixels in made]

    if identities:
        with model.applied(identities, torch_only=bool(group[0].people)) as embeddings:
            images = sample_images(embeddings)
    else:
        images = sample_images(None)

    seconds = (time.perf_counter() - start) / len(group)
    backend = group[0].backend(model, sampling.precision)
    settings = to_table(sampling) | model.memory_plan.metadata | {"backend": backend}
    for request, (pixels, more) in zip(group, images, strict=True):
        method = "none" if request.identity is None else request.identity.method
        how = settings | more | request.recorded, seconds, sampler_name(model, sampling)
        yield Sample(pixels, request.prompt, request.seed, method, model.name, *how)


def sampler_name(model: DiffusionModel, sampling: SamplingConfig) -> str:
    """The sampler's name as A1111 writes it."""
    return SCHEDULERS[sampling.scheduler].a1111_name if sampling.scheduler else a1111_name(model.pipeline.scheduler)
