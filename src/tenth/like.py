"""A picture that tenth wrote -> the prompt, seed and settings by which it was drawn, each within what a user may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tenth.catalog import QUICK
from tenth.config import from_table, to_table
from tenth.diffusion import LatentDiffusion, Sampling
from tenth.errors import DataError, RecipeError
from tenth.generate import LARGEST_SEED, read_sample
from tenth.highres import HighRes
from tenth.options import MOST_GUIDANCE, MOST_STEPS, OWN
from tenth.prompt import check_text, is_text
from tenth.sizes import Size, parse_size

SHOWN = 100  # of what is wrong


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

    Raises RecipeError for options that do not go together, DataError for a prompt that is not UTF-8.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if "guidance_interval" in chosen:
        chosen["guidance_interval"] = tuple(chosen["guidance_interval"])
    if chosen.get("scheduler") == OWN:
        chosen["scheduler"] = ""
    said = {"seed": 0} if like is None else {"prompt": like.prompt, "seed": like.seed, **_settings(like.sampling)}
    both = said | chosen
    for name in ("prompt", "negative"):
        check_text(f"--{name}", both.get(name, ""))
    taken = {} if like is None else {name: value for name, value in said.items() if name not in chosen and value != ""}
    return Asked(both.pop("prompt"), both.pop("seed"), Sampling(**both), taken)


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
        _check(path, "steps", sampling.steps, 1 <= sampling.steps <= MOST_STEPS)
        _check(path, "guidance", sampling.guidance, 1 <= sampling.guidance <= MOST_GUIDANCE)
        _check(path, "words", sampling.words, sampling.words <= MOST_GUIDANCE)
        _check(path, "rescale", sampling.rescale, 0 <= sampling.rescale <= 1)
    except RecipeError as problem:
        raise _unusable(path, f"says what nobody can ask for: {_short(problem)}") from problem
    seed, prompt = said.get("seed", 0), said.get("prompt")
    _check(path, "seed", seed, type(seed) is int and 0 <= seed <= LARGEST_SEED)
    for name, text in {"prompt": prompt, "negative": sampling.negative}.items():
        _check(path, name, text, is_text(text))
    model, method = (value if isinstance(value, str) else "" for value in (said.get("model"), said.get("method")))
    return Like(path, str(prompt), int(seed), sampling, model, method, _highres(path, said))


def _highres(path: Path, said: Mapping[str, Any]) -> HighRes | None:
    """The size that was asked for, and how the picture came to it: what `HighRes.said` says."""
    if "size" not in said:
        return None
    strength, of_face = said.get("strength"), said.get("face_strength", 0.0)
    for name, value in {"strength": strength, "face_strength": of_face}.items():
        _check(path, name, value, type(value) in (int, float))
    try:
        size = parse_size(str(said["size"]))
        # Where a face alone may be drawn again, the strength was the model's own choice: one of 0 would forbid the face.
        again = (said.get("face_pass") is True or None) if of_face else False
        return HighRes(size.width, size.height, None if of_face and not strength else strength, again)
    except DataError as problem:
        raise _unusable(path, f"says what nobody can ask for: {_short(problem)}") from problem


def _check(path: Path, name: str, value: Any, right: bool) -> None:
    if not right:
        raise _unusable(path, f"says {name} {_short(repr(value))}")


def _short(text: object) -> str:
    said = str(text)
    return said if len(said) <= SHOWN else f"{said[:SHOWN]}..."


def _unusable(path: Path, found: str) -> DataError:
    return DataError(f"{path} {found}", "a PNG as tenth wrote it is needed", "Choose another picture, or give the options")
