"""The pictures that `tenth generate` writes, and the record of how they were made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tenth.cli.images.candidates import Choice, GivenPhotos, KeepBest, measure_files
from tenth.cli.images.people import measured_people
from tenth.cli.images.sheet import write_sheet
from tenth.core.config import to_table
from tenth.core.files.claims import exclusive_folder, remove_temporary
from tenth.core.run_record import RECORD_FILE, SHEET_FILE, read_record, write_record
from tenth.core.types import Identity
from tenth.experiments.output_folders import ensure_writable_folder, image_names
from tenth.experiments.resumable_images import ImageSeries, UnfinishedRun
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.memory.planner import DEFAULT_BATCH_SIZE
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import OnProgress, Request, batch_order
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.people import people_metadata
from tenth.sampling.png_metadata import read_sample
from tenth.sampling.prompts.grid import Grid

MEMORY_KEYS = ("device", "memory_profile")  # recorded in an image of a large model


def generate_into(
    folder: Path,
    model: LatentDiffusion,
    requests: Sequence[Request],
    sampling: SamplingConfig,
    on_progress: OnProgress | None = None,
    hires: HiresConfig | None = None,
    given: GivenPhotos | None = None,
    keep: KeepBest | None = None,
    grid: Grid | None = None,
) -> list[Path]:
    """Write one PNG a request, in order, run.json and sheet.png. Returns the PNGs' paths.

    hires: another size than the model's own. given: what the images are compared with, and shown beside. keep: how many of
    each prompt's images are kept, the best. grid: whose cells they are; each is generated alone, as by a command of its own.
    A run that was stopped goes on where it was: what is there already stays, and the bytes are the same in the end.
    Raises CheckpointError if another run is writing to the folder, or it holds anything but a run of the very same settings.
    """
    given = given or GivenPhotos()
    settings = run_settings(model, requests, sampling, hires, keep, grid)
    run, choice = UnfinishedRun(folder, "generate", settings), Choice(folder, requests, keep) if keep else None
    paths = choice.kept if choice else [folder / name for name in image_names(len(requests))]
    with exclusive_folder(folder):
        ensure_writable_folder(folder, settings)
        remove_temporary(folder)

        # Images. Of a finished choice nothing is drawn again.
        finished, drawn = (folder / RECORD_FILE).exists(), choice.candidates if choice else paths
        complete = finished and all(path.exists() for path in paths)
        if choice is None or not complete:
            order = batch_order(model, requests, sampling)
            ordered = [requests[index] for index in order], [drawn[index] for index in order]
            ImageSeries(model, *ordered, sampling, hires, 1 if grid else DEFAULT_BATCH_SIZE).generate(run, on_progress)

        # Their figures, by which the best are kept; the record, and the sheet.
        if not complete:
            figures = measure_files(drawn, given.faces) if given.faces else []
            chosen = choice.copy_best(figures) if choice else range(len(figures))
            if not finished:
                results = _run_results(paths) | {"seconds_per_image": run.mean_seconds(drawn)}
                results["figures"] = {path.name: asdict(figures[index]) for path, index in zip(paths, chosen, strict=False)}
                results |= {"candidates": choice.rows(figures, chosen)} if choice else measured_people(requests, paths)
                write_record(folder / RECORD_FILE, command="generate", settings=settings, results=results)
        if not (folder / SHEET_FILE).exists():
            results = read_record(folder / RECORD_FILE, command="generate")["results"]
            write_sheet(folder / SHEET_FILE, given.crops, paths, results.get("figures", {}), grid)
        if choice:
            choice.remove_candidates()
        run.finish()
    return paths


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


def run_settings(
    model: LatentDiffusion,
    requests: Sequence[Request],
    sampling: SamplingConfig,
    hires: HiresConfig | None = None,
    keep: KeepBest | None = None,
    grid: Grid | None = None,
) -> dict[str, Any]:
    """All that the images depend on, as JSON gives it back. Photos go by their sha256; a person's name has no place here."""
    identities = [request.identity for request in requests]
    starts = list({id(request.start): request.start.metadata for request in requests if request.start is not None}.values())
    images = [_image_settings(model, request, sampling) for request in requests]
    backends = [each.backend(model, each.settings(sampling, None)[0].precision) for each in requests]
    return {
        "model": model.name,
        "encoder": model.encoder.name,
        "adapters": _unique(identity.adapter for identity in identities if identity is not None),
        "methods": _unique("none" if identity is None else identity.method for identity in identities),
        "photos": _unique(photo for identity in identities if identity is not None for photo in identity.photos),
        **({"photo_weights": weights} if (weights := _photo_weights(identities)) else {}),
        "identities": _unique(identity.fingerprint for identity in identities if identity is not None),
        "prompts": _unique(request.prompt for request in requests),
        "backends": _unique(backends),
        "seeds": [request.seed for request in requests],
        "sampling": to_table(sampling.for_model(model)),
        "tenth": version("tenth"),
        **({} if hires is None else {"hires": hires.metadata(model)}),
        **({} if keep is None else {"keep_best": asdict(keep)}),
        **({} if grid is None else {"grid": grid.to_table()}),
        **({"start_images": [start["start_image"] for start in starts]} if starts else {}),
        **people_metadata(requests[0].people),  # the same of all
        **({"requests": images} if any(image != {"prompt": requests[0].prompt} for image in images) else {}),
    }


def _image_settings(model: LatentDiffusion, request: Request, sampling: SamplingConfig) -> dict[str, Any]:
    """What an image has beside the settings of the run."""
    own: dict[str, Any] = {"prompt": request.prompt, **request.metadata}
    if request.negative_prompt is not None:
        own["negative_prompt"] = request.negative_prompt
    if request.sampling is not None:
        own["sampling"] = to_table(request.settings(sampling.for_model(model), None)[0])
    if request.hires is not None:
        own["hires"] = request.hires.metadata(model)
    return own


def _photo_weights(identities: Iterable[Identity | None]) -> dict[str, float]:
    """The weight of each photo by its sha256, of identities whose photos do not count alike."""
    pairs = (zip(each.photos, each.photo_weights, strict=True) for each in identities if each and each.photo_weights)
    return {digest: weight for some in pairs for digest, weight in some}


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
