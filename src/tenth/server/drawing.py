"""The executor of jobs of images: a person of the server and a request -> pictures, as `tenth generate` makes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from tenth.core.config import from_table
from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.png_metadata import read_sample
from tenth.core.marks.png import encode_png
from tenth.core.run_record import CANDIDATES_FOLDER, read_record
from tenth.core.types import Identity, Person
from tenth.data.photo_folder import inspect_photos, to_person
from tenth.experiments.generation.plan import plan_images
from tenth.experiments.generation.request import ImageRequest
from tenth.experiments.generation.run import ImageRun, generate_into
from tenth.experiments.generation.subject import subject_of
from tenth.methods.identity_file import load_identity
from tenth.methods.people.forget import remove_learned
from tenth.methods.registry import DEFAULT_METHOD
from tenth.methods.registry import method as find_method
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.sampling.generate import Progress
from tenth.sampling.passes.start_image import StartImage
from tenth.server.owners import people_of
from tenth.server.queue.job import Job, JobResult, JobStopped, NewPicture, Reporter
from tenth.server.storage.blobs import blob_path

PREVIEW_SECONDS = 0.3  # at most one preview in so many: it takes a small decoder's time


def execute(job: Job, reporter: Reporter) -> JobResult:
    """The pictures of a job of kind "images": {"person", "photos", "request"}. One that was stopped goes on in its folder.

    Raises InputError for a request, a person or photos of which nothing can be made.
    """
    photos, stopped = _photos(job, reporter.data), False
    try:
        return _draw(job, reporter)
    except JobStopped:
        stopped = True
        raise
    finally:
        # Whoever forgets a person meanwhile does not wait for this job, which may have kept something since.
        if _is_forgotten(job, reporter.data, stopped=stopped):
            _read_photos.cache_clear()
            with suppress(CheckpointError):  # of another worker, which does the same then
                remove_learned({path.name for path in photos})


def _draw(job: Job, reporter: Reporter) -> JobResult:
    request = from_table(ImageRequest, job.payload["request"], "the request")
    start = None
    if request.image:
        mask = blob_path(reporter.data, request.mask) if request.mask else None
        start = StartImage.open(blob_path(reporter.data, request.image), request.strength, mask)
    plan = plan_images(request, start=start)
    subject_source = _subject(job, reporter.data, request)

    # The person by the method, then the pictures. What takes minutes to learn is kept with the person.
    def load(options: LoadOptions) -> LatentDiffusion:
        return _load(request.model, options)

    method = "" if isinstance(subject_source, Identity) else request.method
    subject = subject_of(subject_source, plan, method, load)
    if job.person and isinstance(subject_source, Person) and find_method(request.method or DEFAULT_METHOD).tunes_model:
        people_of(reporter.data, job.owner).add_identity(job.person, next(iter(subject.identities.values())))
    folder = reporter.folder / "images"
    paths = generate_into(folder, ImageRun.of(plan, subject), _reports(reporter))

    results = read_record(folder, command="generate")["results"]
    if request.keep_all:
        return JobResult(_candidates(folder, results["candidates"]), {"notes": list(subject.notes)})
    figures = results.get("figures", {})
    return JobResult([_picture(path, figures.get(path.name, {})) for path in paths], {"notes": list(subject.notes)})


def _photos(job: Job, data: Path) -> tuple[Path, ...]:
    """The photos of a job, whose names are their sha256: its own, or those of a saved person."""
    if not job.person:
        return tuple(blob_path(data, digest) for digest in job.payload.get("photos", ()))
    people = people_of(data, job.owner)
    people.require(job.person)
    return people.photos(job.person)


def _is_forgotten(job: Job, data: Path, *, stopped: bool) -> bool:
    """Whether nobody may know the person of a job any more. stopped: the job was; of photos of its own that may be why."""
    person = people_of(data, job.owner).find(job.person) if job.person else None
    return (person is None or person.problem != "") if job.person else stopped


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


@lru_cache(maxsize=4)
def _read_photos(photos: tuple[Path, ...], name: str) -> Person:
    """The person of photos, whose faces are then not looked for again with the next job."""
    if not photos:
        raise DataError("a job without a person", "photos, or a saved person's name, are needed", "Give either")
    return to_person(inspect_photos(photos), name)


@lru_cache(maxsize=1)
def _load(model: str, options: LoadOptions) -> LatentDiffusion:
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
