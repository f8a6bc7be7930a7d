"""What commands write, and where they refuse to, so that nothing of the user's is ever lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tenth.config import read_toml, to_table
from tenth.diffusion import LatentDiffusion
from tenth.errors import CheckpointError, TenthError
from tenth.generate import Progress, Request, generate, save_sample
from tenth.highres import HighRes
from tenth.identity import load_identity
from tenth.record import RECORD, read_record, write_record
from tenth.sampling import Sampling
from tenth.types import Identity
from tenth.wording import counted

TRAINING_RECIPE = "recipe.toml"  # the copy in a training's folder


def draw_into(
    folder: Path,
    model: LatentDiffusion,
    requests: Sequence[Request],
    sampling: Sampling,
    progress: Progress | None = None,
    highres: HighRes | None = None,
) -> list[Path]:
    """Write one PNG a request, in order, then run.json. Returns the PNGs' paths. highres: another size than the model's own.

    Raises CheckpointError if the folder holds anything but a run of the very same settings, which gives the same bytes.
    """
    settings = settings_of(model, requests, sampling, highres)
    claim_folder(folder, settings)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in image_names(len(requests))]
    seconds, rungs, faces = 0.0, [], []
    drawn = generate(model, requests, sampling, progress=progress, highres=highres)
    for path, sample in zip(paths, drawn, strict=True):
        save_sample(sample, path)
        seconds += sample.seconds
        rungs.append(model.fit.recorded)
        faces += [path.name] * bool(sample.settings.get("face_pass"))
    results = {"images": [path.name for path in paths], "seconds_per_image": round(seconds / len(paths), 3)}
    results |= {} if highres is None else {"faces_drawn_again": faces}
    if distinct := [rung for position, rung in enumerate(rungs) if rung and rung not in rungs[:position]]:
        results["drawn"] = distinct
    write_record(folder / RECORD, kind="generate", settings=settings, results=results)
    return paths


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


def claim_folder(folder: Path, settings: dict[str, Any] | None = None) -> None:
    """Raises CheckpointError unless the folder is new or empty, or holds one run of these settings (None: of any) alone."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is a file", "a folder for the images is needed", "Choose another -o")
    entries = {path.name for path in folder.iterdir()}
    if not entries:
        return
    try:
        record = read_record(folder / RECORD, kind="generate")
    except TenthError:
        raise _in_use(folder, counted(len(entries), "file or folder", "files or folders")) from None
    seeds = record["settings"].get("seeds")
    if others := sorted(entries - {RECORD, *image_names(len(seeds) if isinstance(seeds, list) else 0)}):
        raise _in_use(folder, f"{others[0]}, which is not of a run")
    if settings is not None and record["settings"] != settings:
        raise _in_use(folder, "the images of another run")


def image_names(count: int) -> list[str]:
    """0000.png, 0001.png, ..."""
    return [f"{number:04d}.png" for number in range(count)]


def claim_identity(path: Path, **wanted: object) -> None:
    """Raises CheckpointError if `path` exists and is not an identity of these: of other photos, say.

    wanted: as far as it is known; any of an identity's method, model, adapter and photos.
    """
    if not path.exists():
        return
    try:
        earlier = load_identity(path)
    except TenthError:
        raise _other_file(path, "is not an identity") from None
    if any(getattr(earlier, key) != value for key, value in wanted.items()):
        raise _other_file(path, "is an identity of another method, model or other photos")


def claim_training(output: Path, table: Mapping[str, Any], *, resume: bool) -> None:
    """Make the folder, or raise CheckpointError: in use, nothing to resume, or begun with other settings."""
    if output.is_dir() and any(output.iterdir()) and not resume:
        raise CheckpointError(
            f"{output} is not empty", "training starts in an empty folder", "Add --resume to go on, or choose another -o"
        )
    if resume and not (output / TRAINING_RECIPE).is_file():
        raise CheckpointError(
            f"{output} has no {TRAINING_RECIPE}, so there is nothing to resume",
            "a folder of `tenth train` is needed",
            "Leave out --resume",
        )
    if resume and read_toml(output / TRAINING_RECIPE) != table:
        raise CheckpointError(
            f"{output} was begun with other settings",
            f"the recipe must be as in its {TRAINING_RECIPE}",
            "Choose another -o, or that recipe",
        )
    output.mkdir(parents=True, exist_ok=True)


def _other_file(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path} exists and {found}", "a new file is needed, so that nothing is lost", "Choose another -o, or remove it"
    )


def _in_use(folder: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds {found}", "an empty or new folder is needed, so that nothing is lost", "Choose another -o, or empty it"
    )


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _digest(identity: Identity) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted({"": identity.embeddings, **identity.weights}.items()):
        if tensor is not None:
            digest.update(name.encode() + tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
