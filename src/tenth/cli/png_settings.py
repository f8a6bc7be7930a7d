"""A picture that tenth wrote -> the prompt, seed and settings by which it was drawn, each within what a user may ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tenth.core.config import from_table
from tenth.core.errors import DataError, RecipeError
from tenth.core.wording import shorten
from tenth.methods.registry import TUNING_FREE_METHODS
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import MODEL_SCHEDULER, SamplingConfig, check_prompt, check_setting
from tenth.sampling.hires import HiresConfig
from tenth.sampling.png_metadata import read_sample
from tenth.sampling.resolutions import Size, parse_size


@dataclass(frozen=True)
class PngSettings:
    """What a picture says of itself. model: "name@digest", method: both "" where it does not say. Nothing says who it shows."""

    path: Path
    prompt: str
    seed: int
    sampling: SamplingConfig
    model: str
    method: str
    hires: HiresConfig | None = None  # its size, where that was asked for

    @property
    def method_name(self) -> str | None:
        """Its method, if that needs no training for each person and is not the name of a file."""
        return self.method if self.method in TUNING_FREE_METHODS else None

    def notes(self, model: LatentDiffusion, method: str, inherited: Mapping[str, Any]) -> list[str]:
        """What was taken from the picture, and where the new ones will be others than it. inherited: by the options' names."""
        text = ", ".join(f"{name.replace('_', ' ')} {value!r}" for name, value in inherited.items())
        notes = [f"from {self.path.name}: {text}" if text else f"from {self.path.name}: nothing, all was given"]
        for noun, recorded, current in (("model", self.model, model.name), ("method", self.method, method)):
            if recorded and recorded != current:
                notes.append(
                    f"{self.path.name} was drawn with {noun} {recorded}, this is {current}: the pictures will be others"
                )
        return notes


@dataclass(frozen=True)
class MergedOptions:
    """What is to be drawn. inherited: what of it a picture said that is not the default, by the options' names."""

    prompt: str
    seed: int
    sampling: SamplingConfig
    inherited: Mapping[str, Any]


def merge_options(options: Mapping[str, Any], png_settings: PngSettings | None) -> MergedOptions:
    """The options of a command, None where one is not given, on those of a picture, on the defaults.

    Raises RecipeError for options that do not go together, or a prompt that is no text.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    if "guidance_interval" in chosen:
        chosen["guidance_interval"] = tuple(chosen["guidance_interval"])
    if chosen.get("scheduler") == MODEL_SCHEDULER:
        chosen["scheduler"] = ""
    recorded: dict[str, Any] = {"seed": 0}
    inherited: dict[str, Any] = {}
    if png_settings is not None:
        recorded = {"prompt": png_settings.prompt, "seed": png_settings.seed, **vars(png_settings.sampling)}
        usual = vars(SamplingConfig())
        left = {name: value for name, value in recorded.items() if name not in chosen}
        inherited = {name: value for name, value in left.items() if name not in usual or value != usual[name]}
    merged = recorded | chosen
    prompt, seed = merged.pop("prompt"), merged.pop("seed")
    check_prompt("prompt", prompt)
    return MergedOptions(prompt, seed, SamplingConfig(**merged), inherited)


def merge_size(
    size: Size | None, strength: float | None, face_detailer: bool | None, png_settings: PngSettings | None
) -> HiresConfig | None:
    """The options of a size on what a picture says of its own; None where neither names a size. Raises RecipeError."""
    hires = HiresConfig(size.width, size.height) if size else png_settings.hires if png_settings else None
    given: dict[str, Any] = {"strength": strength, "face_detailer": face_detailer}
    changes = {name: value for name, value in given.items() if value is not None}
    if hires is None and changes:
        raise RecipeError("--strength or --face-detailer", "they are for pictures of a size of their own", "Give --size too")
    return hires and replace(hires, **changes)


def read_png_settings(path: Path) -> PngSettings:
    """Raises DataError if the file is no PNG, is another program's, or says something that nobody could have asked for."""
    metadata = read_sample(path)
    names = {each.name for each in fields(SamplingConfig)}
    try:
        sampling = from_table(SamplingConfig, {name: value for name, value in metadata.items() if name in names}, "it")
        seed, prompt = metadata.get("seed", 0), metadata.get("prompt")
        check_setting("seed", seed)
        check_prompt("prompt", prompt)
    except RecipeError as problem:
        raise _unusable_png(path, f"says what nobody can ask for: {shorten(problem)}") from problem
    model, method = (value if isinstance(value, str) else "" for value in (metadata.get("model"), metadata.get("method")))
    return PngSettings(path, str(prompt), int(seed), sampling, model, method, _read_hires(path, metadata))


def _read_hires(path: Path, metadata: Mapping[str, Any]) -> HiresConfig | None:
    """The size that was asked for, and how the picture came to it: what `HiresConfig.metadata` says."""
    if "size" not in metadata:
        return None
    strength, face_strength = metadata.get("strength"), metadata.get("face_strength", 0.0)
    try:
        for name, value in {"strength": strength, "face_strength": face_strength}.items():
            if type(value) not in (int, float):
                raise DataError(f"{name} is {value!r}", "a number is needed", "Correct it")
        size = parse_size(str(metadata["size"]))
        # Where a face alone may be drawn again, the strength was the model's own choice: one of 0 would forbid the face.
        face_detailer = (metadata.get("face_pass") is True or None) if face_strength else False
        return HiresConfig(size.width, size.height, None if face_strength and not strength else strength, face_detailer)
    except DataError as problem:
        raise _unusable_png(path, f"says what nobody can ask for: {shorten(problem)}") from problem


def _unusable_png(path: Path, reason: str) -> DataError:
    return DataError(f"{path} {reason}", "a PNG as tenth wrote it is needed", "Choose another picture, or give the options")
