"""A folder of images, and the record of how they were made: what `tenth generate`, the library and the server write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tenth.core.config import to_table
from tenth.core.files.claims import exclusive_folder, remove_temporary
from tenth.core.files.png_metadata import read_sample
from tenth.core.run_record import RECORD_FILE, SHEET_FILE, read_record, write_record
from tenth.core.types import DiffusionModel, Identity, Person
from tenth.experiments.generation.candidates import Choice, GivenPhotos, KeepBest, measure_files
from tenth.experiments.generation.people_figures import measured_people
from tenth.experiments.generation.plan import ImagePlan, open_start, plan_images
from tenth.experiments.generation.request import ImageRequest
from tenth.experiments.generation.resumable_images import ImageSeries, UnfinishedRun
from tenth.experiments.generation.sheet import write_sheet
from tenth.experiments.generation.subject import LoadModel, Subject, subject_of
from tenth.experiments.output_folders import ensure_writable_folder, image_names
from tenth.models.memory.planner import LoadOptions
from tenth.models.memory.profiles import DEFAULT_BATCH_SIZE
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import OnProgress, Request, batch_order
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.people import people_metadata
from tenth.sampling.prompts.grid import Grid

MEMORY_KEYS = ("device", "memory_profile")  # recorded in an image of a large model


@dataclass(frozen=True, eq=False)
class ImageRun:
    """All that a folder of images depends on.

    hires: another size than the model's own. given: what the images are compared with, and shown beside. keep: how many of
    each prompt's images are kept, the best. grid: whose cells they are; each is generated alone, as by a command of its own.
    """

    model: DiffusionModel
    requests: Sequence[Request]
    sampling: SamplingConfig
    hires: HiresConfig | None = None
    given: GivenPhotos = field(default_factory=GivenPhotos)
    keep: KeepBest | None = None
    grid: Grid | None = None

    @classmethod
    def of(cls, plan: ImagePlan, subject: Subject) -> ImageRun:
        """The run of a plan. Raises IdentityError or ModelError for candidates of somebody without a face to compare with."""
        requests = [subject.request(image) for image in plan.images]
        identity, required = next(iter(subject.identities.values())), plan.keep is not None
        given = GivenPhotos.of(subject.photos, identity, subject.model.encoder, required=required)
        if subject.people:  # no one figure ranks images of several
            given = GivenPhotos(given.crops)
        return cls(subject.model, requests, plan.request.sampling, plan.hires, given, plan.keep, plan.grid)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that the images depend on, as JSON gives it back. Photos go by their sha256; no person's name is in it."""
        identities = [request.identity for request in self.requests]
        starts = {id(each.start): each.start.metadata for each in self.requests if each.start is not None}.values()
        images = [self._own_settings(request) for request in self.requests]
        precisions = [request.settings(self.sampling, None)[0].precision for request in self.requests]
        backends = [request.backend(self.model, each) for request, each in zip(self.requests, precisions, strict=True)]
        return {
            "model": self.model.name,
            "encoder": self.model.encoder.name,
            "adapters": _unique(identity.adapter for identity in identities if identity is not None),
            "methods": _unique("none" if identity is None else identity.method for identity in identities),
            "photos": _unique(photo for identity in identities if identity is not None for photo in identity.photos),
            **({"photo_weights": weights} if (weights := _photo_weights(identities)) else {}),
            "identities": _unique(identity.fingerprint for identity in identities if identity is not None),
            "prompts": _unique(request.prompt for request in self.requests),
            "backends": _unique(backends),
            "seeds": [request.seed for request in self.requests],
            "sampling": to_table(self.sampling.for_model(self.model)),
            "tenth": version("tenth"),
            **({} if self.hires is None else {"hires": self.hires.metadata(self.model)}),
            **({} if self.keep is None else {"keep_best": asdict(self.keep)}),
            **({} if self.grid is None else {"grid": self.grid.to_table()}),
            **({"start_images": [start["start_image"] for start in starts]} if starts else {}),
            **people_metadata(self.requests[0].people),  # the same of all
            **({"requests": images} if any(image != {"prompt": self.requests[0].prompt} for image in images) else {}),
        }

    def _own_settings(self, request: Request) -> dict[str, Any]:
        """What an image has beside the settings of the run."""
        own: dict[str, Any] = {"prompt": request.prompt, **request.metadata}
        if request.negative_prompt is not None:
            own["negative_prompt"] = request.negative_prompt
        if request.sampling is not None:
            own["sampling"] = to_table(request.settings(self.sampling.for_model(self.model), None)[0])
        if request.hires is not None:
            own["hires"] = request.hires.metadata(self.model)
        return own


def generate_into(folder: Path, images: ImageRun, on_progress: OnProgress | None = None) -> list[Path]:
    """Write one PNG a request, in order, run.json and sheet.png. Returns the PNGs' paths.

    A run that was stopped goes on where it was: what is there already stays, and the bytes are the same in the end.
    Raises CheckpointError if another run is writing to the folder, or it holds anything but a run of the very same settings.
    """
    requests, given = images.requests, images.given
    run = UnfinishedRun(folder, "generate", images.settings)
    choice = Choice(folder, requests, images.keep) if images.keep else None
    paths = choice.kept if choice else [folder / name for name in image_names(len(requests))]
    with exclusive_folder(folder):
        ensure_writable_folder(folder, images.settings)
        remove_temporary(folder)

        # Images. Of a finished choice nothing is drawn again.
        finished, drawn = (folder / RECORD_FILE).exists(), choice.candidates if choice else paths
        complete = finished and all(path.exists() for path in paths)
        if choice is None or not complete:
            order = batch_order(images.model, requests, images.sampling)
            ordered = [requests[index] for index in order], [drawn[index] for index in order]
            batch_size = 1 if images.grid else DEFAULT_BATCH_SIZE
            ImageSeries(images.model, *ordered, images.sampling, images.hires, batch_size).generate(run, on_progress)

        # Their figures, by which the best are kept; the record, and the sheet.
        if not complete:
            figures = measure_files(drawn, given.faces) if given.faces else []
            chosen = choice.copy_best(figures) if choice else range(len(figures))
            if not finished:
                results = _run_results(paths) | {"seconds_per_image": run.mean_seconds(drawn)}
                results["figures"] = {path.name: asdict(figures[index]) for path, index in zip(paths, chosen, strict=False)}
                results |= {"candidates": choice.rows(figures, chosen)} if choice else measured_people(requests, paths)
                write_record(folder / RECORD_FILE, command="generate", settings=images.settings, results=results)
        if not (folder / SHEET_FILE).exists():
            results = read_record(folder / RECORD_FILE, command="generate")["results"]
            write_sheet(folder / SHEET_FILE, given.crops, paths, results.get("figures", {}), images.grid)
        if choice:
            choice.remove_candidates()
        run.finish()
    return paths


def generate_images(
    request: ImageRequest | ImagePlan,
    person: Person | Identity,
    folder: str | Path,
    model: DiffusionModel | LoadModel | None = None,
    on_progress: OnProgress | None = None,
    on_begin: Callable[[Subject, ImageRun], None] | None = None,
) -> list[Path]:
    """The images of a request into a folder, as `tenth generate` does: 0000.png, ..., run.json and sheet.png. Returns the PNGs.

    request: or the plan of one. person: their photos, or an identity that a method made of these. model: None to load the
    request's, or what loads it. on_begin: gets what was learned, before there are images. A run that was stopped goes on
    where it was. Raises RecipeError, DataError or IdentityError for what the request asks for and the model or the person
    cannot give, CheckpointError for a folder that holds anything else.
    """
    plan = request if isinstance(request, ImagePlan) else plan_images(request, start=open_start(request))

    def load(options: LoadOptions) -> DiffusionModel:
        if model is None:
            return load_model(plan.request.model, options=options)
        return model(options) if callable(model) else model

    subject = subject_of(person, plan, plan.request.method, load)
    images = ImageRun.of(plan, subject)
    if on_begin is not None:
        on_begin(subject, images)
    return generate_into(Path(folder), images, on_progress)


def _run_results(paths: Sequence[Path]) -> dict[str, Any]:
    """What run.json says came out, read from the pictures: the same whether the run was stopped in between or not."""
    results: dict[str, Any] = {"images": [path.name for path in paths]}
    metadata = [read_sample(path) for path in paths]
    if any("face_detailed" in each for each in metadata):
        detailed = [path.name for path, each in zip(paths, metadata, strict=True) if each.get("face_detailed")]
        results["faces_detailed"] = detailed
    profiles = [{key: each[key] for key in MEMORY_KEYS if key in each} for each in metadata]
    if distinct := [each for position, each in enumerate(profiles) if each and each not in profiles[:position]]:
        results["memory_profiles"] = distinct
    return results


def _photo_weights(identities: Iterable[Identity | None]) -> dict[str, float]:
    """The weight of each photo by its sha256, of identities whose photos do not count alike."""
    pairs = (zip(each.photos, each.photo_weights, strict=True) for each in identities if each and each.photo_weights)
    return {digest: weight for some in pairs for digest, weight in some}


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
