"""The executor of jobs of images: a person of the server and a request -> pictures, as `tenth generate` makes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from tenth.core.config import from_table
from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.png_metadata import read_sample
from tenth.core.marks.png import encode_png
from tenth.core.run_record import CANDIDATES_FOLDER, read_record
from tenth.core.types import DiffusionModel, Identity, Person
from tenth.data.photo_folder import inspect_photos, to_person
from tenth.experiments.generation.notes import image_notes
from tenth.experiments.generation.plan import open_start, plan_images
from tenth.experiments.generation.request import ImageRequest
from tenth.experiments.generation.run import ImageRun, generate_images
from tenth.experiments.generation.subject import Subject
from tenth.methods.identity_file import load_identity
from tenth.methods.people.forget import is_forgotten, remove_learned
from tenth.methods.registry import DEFAULT_METHOD
from tenth.methods.registry import method as find_method
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.sampling.generate import Progress
from tenth.server.owners import people_of
from tenth.server.queue.job import Job, JobResult, JobStopped, NewPicture, Reporter
from tenth.server.storage.blobs import blob_path

MAX_PEOPLE = 4  # whose photos stay in memory
_PEOPLE: dict[tuple[Path, ...], Person] = {}  # the last ones, by their photos
PREVIEW_SECONDS = 0.3  # at most one preview in so many: it takes a small decoder's time


def execute(job: Job, reporter: Reporter) -> JobResult:
    """The pictures of a job of kind "images": {"person", "photos", "request"}. One that was stopped goes on in its folder.

    Raises InputError for a request, a person or photos of which nothing can be made.
    """
    drop_forgotten()
    photos, stopped = _photos(job, reporter.data), False
    try:
        return _draw(job, reporter)
    except JobStopped:
        stopped = True
        raise
    finally:
        # Whoever forgets a person meanwhile does not wait for this job, which may have kept something since.
        if is_forgotten(people_of(reporter.data, job.owner), job.person) if job.person else stopped:
            _PEOPLE.pop(photos, None)
            with suppress(CheckpointError):  # of another worker, which does the same then
                remove_learned({path.name for path in photos})


def drop_forgotten() -> None:
    """Keep no photo in memory whose file is gone: that person was forgotten. A worker calls it while no job waits, too."""
    for photos in [each for each in _PEOPLE if not all(path.exists() for path in each)]:
        del _PEOPLE[photos]


def _draw(job: Job, reporter: Reporter) -> JobResult:
    request = from_table(ImageRequest, job.payload["request"], "the request")
    start = open_start(request, partial(blob_path, reporter.data))
    subject_source = _subject(job, reporter.data, request)
    notes: list[str] = []
    learned = isinstance(subject_source, Person) and find_method(request.method or DEFAULT_METHOD).tunes_model
    if isinstance(subject_source, Identity):
        request = replace(request, method="")  # which it was made by

    # The person by the method, then the pictures. What takes minutes to learn is kept with the person.
    models: list[DiffusionModel] = []

    def keep(subject: Subject, images: ImageRun) -> None:
        models.append(subject.model)
        notes.extend([*subject.notes, *image_notes(images)])
        if job.person and learned:
            people_of(reporter.data, job.owner).add_identity(job.person, next(iter(subject.identities.values())))

    folder, plan, load = reporter.folder / "images", plan_images(request, start=start), partial(_load, request.model)
    try:
        paths = generate_images(plan, subject_source, folder, load, _reports(reporter), keep)
    finally:
        for model in models:  # the model stays in memory: nothing of these photos does
            if model.family is not None:
                model.prompt_encoder.forget_photos()

    results = read_record(folder, command="generate")["results"]
    if request.keep_all:
        return JobResult(_candidates(folder, results["candidates"]), {"notes": notes})
    figures = results.get("figures", {})
    return JobResult([_picture(path, figures.get(path.name, {})) for path in paths], {"notes": notes})


def _photos(job: Job, data: Path) -> tuple[Path, ...]:
    """The photos of a job, whose names are their sha256: its own, or those of a saved person."""
    if not job.person:
        return tuple(blob_path(data, digest) for digest in job.payload.get("photos", ()))
    people = people_of(data, job.owner)
    people.require(job.person)
    return people.photos(job.person)


def _subject(job: Job, data: Path, request: ImageRequest) -> Person | Identity:
    """Whom a job is about: photos of its own, or a saved person's; of one without photos, or learned before, the identity."""
    photos = _photos(job, data)
    if not job.person:
        return _read_photos(photos, "the photos")
    people = people_of(data, job.owner)
    chosen = find_method(request.method or DEFAULT_METHOD)
    if chosen.tunes_model or not photos:
        saved = people.identity(job.person, request.method and chosen.name, request.model)
        if saved is not None:
            return load_identity(saved)
    if not photos:
        needed = f"photos, or an identity for {request.model} by this method, are needed"
        raise DataError(f"{job.person} has none of these", needed, "Choose the method and model that the person was saved with")
    return _read_photos(photos, job.person)


def _read_photos(photos: tuple[Path, ...], name: str) -> Person:
    """The person of photos, whose faces are then not looked for again with the next job."""
    if not photos:
        raise DataError("a job without a person", "photos, or a saved person's name, are needed", "Give either")
    person = _PEOPLE.pop(photos, None) or to_person(inspect_photos(photos), name)
    _PEOPLE[photos] = person  # the last one used
    if len(_PEOPLE) > MAX_PEOPLE:
        del _PEOPLE[next(iter(_PEOPLE))]
    return person


@lru_cache(maxsize=1)
def _load(model: str, options: LoadOptions) -> DiffusionModel:
    """The model of the last job: another one takes its place in memory."""
    return load_model(model, options=options)


def _reports(reporter: Reporter) -> Callable[[Progress], None]:
    """What says how far the pictures are, and shows the first of those being made."""
    shown = 0.0

    def report(now: Progress) -> None:
        nonlocal shown
        reporter.progress(now.done, now.total)
        if now.step is not None and time.monotonic() >= shown + PREVIEW_SECONDS:
            reporter.preview(encode_png(Image.fromarray(now.step.preview()[0])))
            shown = time.monotonic()

    return report


def _picture(path: Path, figures: Mapping[str, Any]) -> NewPicture:
    settings = read_sample(path)
    return NewPicture(path, int(settings["seed"]), settings, dict(figures))


def _candidates(folder: Path, rows: Sequence[Mapping[str, Any]]) -> list[NewPicture]:
    """All candidates with their figures, those that were kept first."""
    pictures = [_picture(folder / CANDIDATES_FOLDER / f"{index:04d}.png", row) for index, row in enumerate(rows)]
    order = sorted(range(len(rows)), key=lambda index: rows[index]["kept"] or "~")
    return [pictures[index] for index in order]
