"""The pictures that `tenth generate` writes, and the record of how they were made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tenth.core.claims import claimed_folder, remove_temporary
from tenth.core.config import to_table
from tenth.core.run_record import RECORD, write_record
from tenth.core.types import Identity
from tenth.experiments.output_folders import claim_folder, image_names
from tenth.experiments.resumable_images import Begun, Series
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import Sampling
from tenth.sampling.generate import Progress, Request
from tenth.sampling.hires import HighRes
from tenth.sampling.png_metadata import read_sample

FIT = ("device", "rung")  # what a picture says of how a large model was held while it was drawn


def draw_into(
    folder: Path,
    model: LatentDiffusion,
    requests: Sequence[Request],
    sampling: Sampling,
    progress: Progress | None = None,
    highres: HighRes | None = None,
) -> list[Path]:
    """Write one PNG a request, in order, then run.json. Returns the PNGs' paths. highres: another size than the model's own.

    A run that was stopped goes on where it was: what is there already stays, and the bytes are the same in the end.
    Raises CheckpointError if another run is writing to the folder, or it holds anything but a run of the very same settings.
    """
    settings = settings_of(model, requests, sampling, highres)
    paths, begun = [folder / name for name in image_names(len(requests))], Begun(folder, "generate", settings)
    with claimed_folder(folder):
        claim_folder(folder, settings)
        remove_temporary(folder)
        Series(model, requests, paths, sampling, highres).draw(begun, progress)
        if not (folder / RECORD).exists():
            results = _results(paths, begun, highres)
            write_record(folder / RECORD, kind="generate", settings=settings, results=results)
        begun.end()
    return paths


def _results(paths: Sequence[Path], begun: Begun, highres: HighRes | None) -> dict[str, Any]:
    """What run.json says came out, read from the pictures: the same whether the run was stopped in between or not."""
    results: dict[str, Any] = {"images": [path.name for path in paths], "seconds_per_image": begun.mean_seconds(paths)}
    said = [read_sample(path) for path in paths]
    if highres is not None:
        results["faces_drawn_again"] = [path.name for path, each in zip(paths, said, strict=True) if each["face_pass"]]
    rungs = [{key: each[key] for key in FIT if key in each} for each in said]
    if distinct := [rung for position, rung in enumerate(rungs) if rung and rung not in rungs[:position]]:
        results["drawn"] = distinct
    return results


def settings_of(
    model: LatentDiffusion, requests: Sequence[Request], sampling: Sampling, highres: HighRes | None = None
) -> dict[str, Any]:
    """All that the images depend on, as JSON gives it back. Photos go by their sha256; a person's name has no place here."""
    identities = [request.identity for request in requests]
    return {
        "model": model.name,
        "encoder": model.encoder.name,
        "adapters": _distinct(identity.adapter for identity in identities if identity is not None),
        "methods": _distinct("none" if identity is None else identity.method for identity in identities),
        "photos": _distinct(photo for identity in identities if identity is not None for photo in identity.photos),
        "identities": _distinct(_digest(identity) for identity in identities if identity is not None),
        "prompts": _distinct(request.prompt for request in requests),
        "seeds": [request.seed for request in requests],
        "sampling": to_table(sampling),
        "tenth": version("tenth"),
        **({} if highres is None else {"highres": highres.said(model)}),
    }


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _digest(identity: Identity) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted({"": identity.embeddings, **identity.weights}.items()):
        if tensor is not None:
            digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
