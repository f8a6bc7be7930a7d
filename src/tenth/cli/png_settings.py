"""A picture that tenth wrote -> the prompt, seed and settings by which it was drawn, each within what a user may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tenth.core.config import from_table, to_table
from tenth.core.errors import DataError, RecipeError
from tenth.core.wording import brief
from tenth.methods.registry import QUICK
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import OWN, Sampling, check, check_text
from tenth.sampling.hires import HighRes
from tenth.sampling.png_metadata import read_sample
from tenth.sampling.resolutions import Size, parse_size


@dataclass(frozen=True)
class Like:
    """What a picture says of itself. model: "name@digest", method: both "" where it does not say. Nothing says who it shows."""

    path: Path
    prompt: str
    seed: int
    sampling: Sampling
    model: str
    method: str
    highres: HighRes | None = None  # its size, where that was asked for

    @property
    def drawn_by(self) -> str | None:
        """Its method, if that needs no training for each person and is not the name of a file."""
        return self.method if self.method in QUICK else None

    def notes(self, model: LatentDiffusion, method: str, taken: Mapping[str, Any]) -> list[str]:
        """What was taken from the picture, and where the new ones will be others than it. taken: by the options' names."""
        said = ", ".join(f"{name.replace('_', ' ')} {value!r}" for name, value in taken.items())
        notes = [f"from {self.path.name}: {said}" if said else f"from {self.path.name}: nothing, all was given"]
        for kind, of_it, ours in (("model", self.model, model.name), ("method", self.method, method)):
            if of_it and of_it != ours:
                notes.append(f"{self.path.name} was drawn with {kind} {of_it}, this is {ours}: the pictures will be others")
        return notes


@dataclass(frozen=True)
class Asked:
    """What is to be drawn. taken: what of it a picture said, by the options' names."""

    prompt: str
    seed: int
    sampling: Sampling
    taken: Mapping[str, Any]


def asked_of(given: Mapping[str, Any], like: Like | None) -> Asked:
    """The options of a command, None where one is not given, on those of a picture, on the defaults.

    Raises RecipeError for options that do not go together, or a prompt that is no text.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if "guidance_interval" in chosen:
        chosen["guidance_interval"] = tuple(chosen["guidance_interval"])
    if chosen.get("scheduler") == OWN:
        chosen["scheduler"] = ""
    said = {"seed": 0} if like is None else {"prompt": like.prompt, "seed": like.seed, **_settings(like.sampling)}
    both = said | chosen
    taken = {} if like is None else {name: value for name, value in said.items() if name not in chosen and value != ""}
    prompt, seed = both.pop("prompt"), both.pop("seed")
    check_text("prompt", prompt)
    return Asked(prompt, seed, Sampling(**both), taken)


def sized(size: Size | None, strength: float | None, face_pass: bool | None, like: Like | None) -> HighRes | None:
    """The options of a size on what a picture says of its own; None where neither names a size. Raises RecipeError."""
    found = HighRes(size.width, size.height) if size else like.highres if like else None
    given: dict[str, Any] = {"strength": strength, "face_pass": face_pass}
    changes = {name: value for name, value in given.items() if value is not None}
    if found is None and changes:
        raise RecipeError("--strength or --face-pass", "they are for pictures of a size of their own", "Give --size too")
    return found and replace(found, **changes)


def _settings(sampling: Sampling) -> dict[str, Any]:
    """By name, without what has its default since it was added."""
    said = to_table(sampling)
    return {each.name: getattr(sampling, each.name) for each in fields(sampling) if each.name in said}


def read_like(path: Path) -> Like:
    """Raises DataError if the file is no PNG, is another program's, or says something that nobody could have asked for.

    What an older version did not know to say has its default.
    """
    said = read_sample(path)
    names = {each.name for each in fields(Sampling)}
    try:
        sampling = from_table(Sampling, {name: value for name, value in said.items() if name in names}, "it")
        seed, prompt = said.get("seed", 0), said.get("prompt")
        check("seed", seed)
        check_text("prompt", prompt)
    except RecipeError as problem:
        raise _unusable(path, f"says what nobody can ask for: {brief(problem)}") from problem
    model, method = (value if isinstance(value, str) else "" for value in (said.get("model"), said.get("method")))
    return Like(path, str(prompt), int(seed), sampling, model, method, _highres(path, said))


def _highres(path: Path, said: Mapping[str, Any]) -> HighRes | None:
    """The size that was asked for, and how the picture came to it: what `HighRes.said` says."""
    if "size" not in said:
        return None
    strength, of_face = said.get("strength"), said.get("face_strength", 0.0)
    try:
        for name, value in {"strength": strength, "face_strength": of_face}.items():
            if type(value) not in (int, float):
                raise DataError(f"{name} is {value!r}", "a number is needed", "Correct it")
        size = parse_size(str(said["size"]))
        # Where a face alone may be drawn again, the strength was the model's own choice: one of 0 would forbid the face.
        again = (said.get("face_pass") is True or None) if of_face else False
        return HighRes(size.width, size.height, None if of_face and not strength else strength, again)
    except DataError as problem:
        raise _unusable(path, f"says what nobody can ask for: {brief(problem)}") from problem


def _unusable(path: Path, found: str) -> DataError:
    return DataError(f"{path} {found}", "a PNG as tenth wrote it is needed", "Choose another picture, or give the options")
