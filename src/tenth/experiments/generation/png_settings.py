"""A PNG that tenth wrote -> the prompt, seed and settings by which it was made, each within what a user may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tenth.core.config import from_table
from tenth.core.errors import DataError, RecipeError
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import DiffusionModel
from tenth.core.wording import shorten
from tenth.methods.registry import TUNING_FREE_METHODS
from tenth.sampling.bounds import check_prompt, check_setting
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import parse_size


@dataclass(frozen=True)
class PngSettings:
    """What an image says of itself. model: "name@digest", method: both "" where it does not say. Nothing says who it shows."""

    path: Path
    prompt: str
    seed: int
    sampling: SamplingConfig
    model: str
    method: str
    hires: HiresConfig | None = None  # its size, where that was asked for
    start: Mapping[str, Any] = field(default_factory=dict)  # sha256 and strength of the picture that it started from
    people: Sequence[Mapping[str, Any]] = ()  # where each of several people is
    photos: tuple[str, ...] = ()  # sha256 of those that the model read

    @property
    def method_name(self) -> str | None:
        """Its method, if that needs no training for each person and is not the name of a file."""
        return self.method if self.method in TUNING_FREE_METHODS else None

    def notes(self, model: DiffusionModel, method: str, inherited: Mapping[str, Any], photos: Sequence[str] = ()) -> list[str]:
        """What was taken from the image, and where the new ones will be others than it. inherited: by the options' names.

        photos: sha256 of those that the new ones are made of.
        """
        text = ", ".join(f"{name.replace('_', ' ')} {value!r}" for name, value in inherited.items())
        notes = [f"from {self.path.name}: {text or 'nothing, all was given'}"]
        for noun, recorded, current in (("model", self.model, model.name), ("method", self.method, method)):
            if recorded and recorded != current:
                notes.append(f"{self.path.name} was made with {noun} {recorded}, this is {current}: the images will be others")
        if self.photos and self.photos != tuple(photos):
            notes.append(f"{self.path.name} was made of other photos in context: the images will be others")
        return notes


def read_png_settings(path: Path) -> PngSettings:
    """Raises DataError if the file is no PNG, is another program's, or says something that nobody could have asked for."""
    metadata = read_sample(path)
    prompt, seed = metadata.get("prompt"), metadata.get("seed", 0)
    names = {each.name for each in fields(SamplingConfig)}
    try:
        sampling = from_table(SamplingConfig, {name: value for name, value in metadata.items() if name in names}, "it")
        check_setting("seed", seed)
        check_prompt("prompt", prompt)
        hires = _read_hires(metadata) if "size" in metadata else None
        start, people, photos = _read_start(metadata), _read_people(metadata), _read_photos(metadata)
    except (DataError, RecipeError) as problem:
        needed, action = "a PNG as tenth wrote it is needed", "Choose another image, or give the options"
        raise DataError(f"{path} says what nobody can ask for: {shorten(problem)}", needed, action) from problem
    model, method = (value if isinstance(value, str) else "" for value in (metadata.get("model"), metadata.get("method")))
    return PngSettings(path, str(prompt), int(seed), sampling, model, method, hires, start, people, photos)


def _read_hires(metadata: Mapping[str, Any]) -> HiresConfig:
    """The size that was asked for, and how the image came to it: what `HiresConfig.metadata` says."""
    strength, face_strength = metadata.get("strength"), metadata.get("face_strength", 0.0)
    for name, value in {"strength": strength, "face_strength": face_strength}.items():
        if type(value) not in (int, float):
            raise DataError(f"{name} is {value!r}", "a number is needed", "Correct it")
    size = parse_size(str(metadata["size"]))
    if not face_strength:  # the face detailer was forbidden
        return HiresConfig(size.width, size.height, strength, face_detailer=False)
    # It was asked for, or left to the size of the face. A strength of 0 was then the model's own: given, it would forbid it.
    return HiresConfig(size.width, size.height, strength or None, True if metadata.get("face_detailed") is True else None)


def _read_people(metadata: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where a PNG's settings say that people are, [] of one person. Raises DataError if nobody could have asked for it."""
    people = metadata.get("people", [])
    if not isinstance(people, list) or not all(isinstance(each, dict) for each in people):
        raise DataError(f"people is {people!r:.100}", "a list of regions is needed", "Correct it")
    return people


def _read_photos(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The sha256 of photos in context. Raises DataError for what are none."""
    photos = metadata.get("photos", [])
    if not isinstance(photos, list) or not all(isinstance(each, str) for each in photos):
        raise DataError(f"photos is {photos!r:.100}", "a list of sha256 is needed", "Correct it")
    return tuple(photos)


def _read_start(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a PNG's settings say of a start image, {} if there was none. Raises DataError if nobody could have asked for it."""
    if "start_image" not in metadata:
        return {}
    start = metadata["start_image"]
    texts = [start.get("sha256"), start.get("mask_sha256", "")] if isinstance(start, dict) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"start_image is {start!r:.100}", "its sha256 and strength are needed", "Correct it")
    try:
        check_setting("strength", start.get("strength"))
    except RecipeError as problem:
        raise DataError(problem.found, problem.needed, problem.action) from problem
    return dict(start)
