"""A PNG that tenth wrote -> the prompt, seed and settings by which it was made, each within what a user may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tenth.cli.images.start_options import read_recorded_start
from tenth.core.config import from_table
from tenth.core.errors import DataError, RecipeError
from tenth.core.wording import shorten
from tenth.methods.registry import TUNING_FREE_METHODS
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.bounds import MODEL_SCHEDULER, check_prompt, check_setting
from tenth.sampling.config import SamplingConfig
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.passes.resolutions import Size, parse_size
from tenth.sampling.passes.start_image import StartImage
from tenth.sampling.png_metadata import read_sample
from tenth.sampling.prompts.grid import Grid


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

    @property
    def method_name(self) -> str | None:
        """Its method, if that needs no training for each person and is not the name of a file."""
        return self.method if self.method in TUNING_FREE_METHODS else None

    def notes(self, model: LatentDiffusion, method: str, inherited: Mapping[str, Any]) -> list[str]:
        """What was taken from the image, and where the new ones will be others than it. inherited: by the options' names."""
        text = ", ".join(f"{name.replace('_', ' ')} {value!r}" for name, value in inherited.items())
        notes = [f"from {self.path.name}: {text or 'nothing, all was given'}"]
        for noun, recorded, current in (("model", self.model, model.name), ("method", self.method, method)):
            if recorded and recorded != current:
                notes.append(f"{self.path.name} was made with {noun} {recorded}, this is {current}: the images will be others")
        return notes


@dataclass(frozen=True)
class MergedOptions:
    """What all images of a command share. png: the image whose settings were taken. hires: another size than the model's own.

    start: the picture that the images start from. prompt, seed: of the first. inherited: what an image said that is not the
    default, by the options' names.
    """

    prompt: str
    seed: int
    sampling: SamplingConfig
    inherited: Mapping[str, Any]
    png: PngSettings | None = None
    hires: HiresConfig | None = None
    start: StartImage | None = None
    grid: Grid | None = None


def merge_options(options: Mapping[str, Any], png_settings: PngSettings | None) -> MergedOptions:
    """The options of a command, None where one is not given, on those of an image, on the defaults.

    Raises RecipeError for options that do not go together, or a prompt that is no text.
    """
    # What was given, as a SamplingConfig has it.
    given = {name: value for name, value in options.items() if value is not None}
    if given.get("scheduler") == MODEL_SCHEDULER:
        given["scheduler"] = ""

    # What the image says, where nothing was given; its defaults need no word.
    recorded: dict[str, Any] = {"seed": 0}
    inherited: dict[str, Any] = {}
    if png_settings is not None:
        recorded = {"prompt": png_settings.prompt, "seed": png_settings.seed, **vars(png_settings.sampling)}
        defaults = vars(SamplingConfig())
        unlike = {name: value for name, value in recorded.items() if name not in defaults or value != defaults[name]}
        inherited = {name: value for name, value in unlike.items() if name not in given}

    # Prompt and seed are no settings of sampling.
    merged = recorded | given
    prompt, seed = merged.pop("prompt"), merged.pop("seed")
    check_prompt("prompt", prompt)
    config = SamplingConfig(**merged)
    return MergedOptions(prompt, seed, config, inherited, png_settings)


def merge_size(
    size: Size | None, strength: float | None, face_detailer: bool | None, png_settings: PngSettings | None
) -> HiresConfig | None:
    """The options of a size on what an image says of its own; None where neither names a size. Raises RecipeError."""
    hires = HiresConfig(size.width, size.height) if size else png_settings.hires if png_settings else None
    given: dict[str, Any] = {"strength": strength, "face_detailer": face_detailer}
    changes = {name: value for name, value in given.items() if value is not None}
    if hires is None and changes:
        raise RecipeError("--strength or --face-detailer", "they are for images of a size of their own", "Give --size too")
    return replace(hires, **changes) if hires else None  # at once: each alone may not go with the other as it was


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
        start, people = read_recorded_start(metadata), _read_people(metadata)
    except (DataError, RecipeError) as problem:
        needed, action = "a PNG as tenth wrote it is needed", "Choose another image, or give the options"
        raise DataError(f"{path} says what nobody can ask for: {shorten(problem)}", needed, action) from problem
    model, method = (value if isinstance(value, str) else "" for value in (metadata.get("model"), metadata.get("method")))
    return PngSettings(path, str(prompt), int(seed), sampling, model, method, hires, start, people)


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
