"""The rows of a shard -> pictures: a model is loaded once, an identity made once for a person and a method.

Which rows share a batch follows from the rows alone, so a shard has the same bytes whoever draws it. The seed alone decides an
image's noise: a picture differs from that of `tenth generate` with the same settings by at most 1/255.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Protocol

from tenth.core.errors import DataError, InputError
from tenth.core.files.png_metadata import encode_sample, sample_metadata
from tenth.core.types import DiffusionModel, Identity, Person, Sample
from tenth.data.photo_folder import inspect_photos, to_person
from tenth.data.photo_sources import IDENTITY_SUFFIX
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.shards import DrawnRow
from tenth.experiments.generation.plan import ImagePlan, plan_images
from tenth.experiments.generation.subject import load_options, subject_of
from tenth.methods.identity_file import load_identity
from tenth.methods.registry import DEFAULT_METHOD
from tenth.methods.registry import method as find_method
from tenth.models.memory.planner import LoadOptions
from tenth.models.memory.profiles import DEFAULT_BATCH_SIZE
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, batch_order, check_request, generate

WINDOW_ROWS = 128  # whose identities and pictures are in memory at once; a multiple of the batch


class Drawer(Protocol):
    """Draws the rows of a shard: one result each, in their order. Equal rows give equal results."""

    def __call__(self, rows: Sequence[BatchRow], /) -> Iterator[DrawnRow]: ...


@dataclass(frozen=True, eq=False)
class _Planned:
    row: BatchRow
    plan: ImagePlan


class ModelDrawer:
    """Draws by diffusion models, of which the last one used stays in memory.

    root: the folder that people's paths begin in. image_format: png or webp. device, backend: "" for what a model takes.
    """

    def __init__(self, root: Path, image_format: str = "png", device: str = "", backend: str = "") -> None:
        self.root, self.image_format, self.device, self.backend = root, image_format, device, backend
        self._loaded: tuple[str, LoadOptions, DiffusionModel] | None = None
        self._person: tuple[str, Person | Identity | InputError] | None = None  # the last one
        self._identities: dict[tuple[str, str], Identity] = {}  # of that person, by model and method

    def __call__(self, rows: Sequence[BatchRow], /) -> Iterator[DrawnRow]:
        for model, group in groupby(rows, key=lambda row: row.model):
            planned = [_plan(row) for row in group]
            options = replace(_options_of(planned), device=self.device, backend=self.backend)
            for window in _windows(planned):
                yield from self._draw_window(window, model, options)

    def _draw_window(self, window: Sequence[_Planned | DrawnRow], model: str, options: LoadOptions) -> Iterator[DrawnRow]:
        """The pictures of some rows, batches of those that can share one, in the order of the rows."""
        results: dict[int, DrawnRow] = {}
        requests: dict[int, Request] = {}
        for index, each in enumerate(window):
            if isinstance(each, DrawnRow):
                results[index] = each
                continue
            try:
                requests[index] = self._request(each, lambda _: self._load(model, options))
            except InputError as problem:
                results[index] = DrawnRow(each.row, error=problem)

        # Only rows that can be drawn come here. If a batch fails after all, each of its rows is drawn alone.
        if requests:
            diffusion, indices = self._load(model, options), list(requests)
            order = [indices[place] for place in batch_order(diffusion, list(requests.values()), SamplingConfig())]
            try:
                drawn: Mapping[int, Sample | InputError] = dict(
                    zip(order, _samples(diffusion, [requests[i] for i in order]), strict=True)
                )
            except InputError:
                drawn = {index: _sample_alone(diffusion, requests[index]) for index in order}
            for index, sample in drawn.items():
                results[index] = self._drawn(window[index].row, requests[index], sample)
        yield from (results[index] for index in range(len(window)))

    def _request(self, planned: _Planned, load: Callable[[LoadOptions], DiffusionModel]) -> Request:
        """A row's request, with the identity of its person. Raises InputError."""
        row, plan = planned.row, planned.plan
        person = self._person_of(row)
        key = (row.model, row.method)
        if key not in self._identities:
            self._identities[key] = subject_of(person, plan, row.method, load).identities[None]
        image, model = plan.images[0].request, load(LoadOptions())
        plan.check(model)
        hires, sampling = image.hires or plan.hires, image.sampling or plan.request.sampling
        request = replace(image, identity=self._identities[key], hires=hires, sampling=sampling)
        check_request(model, request, sampling)
        return request

    def _person_of(self, row: BatchRow) -> Person | Identity:
        """Whom a row shows, read once for all rows of the person. Raises InputError."""
        if self._person is None or self._person[0] != row.person:
            self._identities = {}
            self._person = row.person, self._read_person(row.person)
        if isinstance(self._person[1], InputError):
            raise self._person[1]
        return self._person[1]

    def _read_person(self, person: str) -> Person | Identity | InputError:
        """As `read_person`; an error says the path as the plan has it, so that reports are the same wherever the plan lies."""
        try:
            return read_person(self.root / person)
        except InputError as problem:
            return DataError(problem.found.replace(f"{self.root}{os.sep}", ""), problem.needed, problem.action)

    def _load(self, name: str, options: LoadOptions) -> DiffusionModel:
        if self._loaded is None or self._loaded[:2] != (name, options):
            self._loaded = None  # its memory is free before the next one comes
            self._identities = {}
            self._loaded = name, options, load_model(name, options=options)
        return self._loaded[2]

    def _drawn(self, row: BatchRow, request: Request, sample: Sample | InputError) -> DrawnRow:
        if isinstance(sample, InputError):
            return DrawnRow(row, error=sample)
        made_of: dict[str, Any] = {"settings": sample_metadata(sample)}
        if request.identity is not None:
            made_of |= {"identity": request.identity.fingerprint, "photos": list(request.identity.photos)}
        suffix = self.image_format
        return DrawnRow(row, encode_sample(sample, suffix), suffix, made_of)


def _plan(row: BatchRow) -> _Planned | DrawnRow:
    try:
        return _Planned(row, plan_images(row.request))
    except InputError as problem:
        return DrawnRow(row, error=problem)


def _windows(planned: Sequence[_Planned | DrawnRow]) -> Iterator[list[_Planned | DrawnRow]]:
    """Rows that are drawn together. What is learned of a person is large: those rows are of one person."""
    for _, group in groupby(planned, key=lambda each: each.row.person if _says(each, "tunes_model") else ""):
        while window := list(islice(group, WINDOW_ROWS)):
            yield window


def _options_of(planned: Sequence[_Planned | DrawnRow]) -> LoadOptions:
    """How the model of a shard's rows is loaded: for the largest of their sizes."""
    plans = [each.plan for each in planned if isinstance(each, _Planned)]
    largest = max(plans, key=lambda plan: plan.largest_size.size.area if plan.largest_size else 0, default=None)
    if largest is None:
        return LoadOptions()
    learns, with_photos = (any(_says(each, name) for each in planned) for name in ("tunes_model", "keeps_photos"))
    options = load_options(largest, full_precision=learns, with_photos=with_photos)
    return replace(options, batch_size=min(len(plans), DEFAULT_BATCH_SIZE))


def _says(planned: _Planned | DrawnRow, name: str) -> bool:
    """`tunes_model` or `keeps_photos` of a row's method; one that is unknown is the row's error later."""
    if planned.row.person.endswith(IDENTITY_SUFFIX):
        return False
    try:
        return bool(getattr(find_method(planned.row.method or DEFAULT_METHOD), name))
    except InputError:
        return False


def read_person(path: Path) -> Person | Identity:
    """Whom a path shows: the person of a folder of photos, or an identity. Raises InputError."""
    if path.suffix == IDENTITY_SUFFIX and not path.is_dir():
        return load_identity(path)
    return to_person(inspect_photos([path]), path.name)


def _samples(model: DiffusionModel, requests: Sequence[Request]) -> list[Sample]:
    return list(generate(model, requests, SamplingConfig()))


def _sample_alone(model: DiffusionModel, request: Request) -> Sample | InputError:
    try:
        return _samples(model, [request])[0]
    except InputError as problem:
        return problem
