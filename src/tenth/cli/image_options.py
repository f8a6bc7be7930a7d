"""The options of `tenth generate` alone: what images show, how many, how they are sampled, their size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tenth.core.errors import DataError, RecipeError
from tenth.core.files.reading import parse_json
from tenth.models.adapters.adapter_scale import EXAMPLE_SCALE, MAX_SCALE, AdapterScale, validate_scale
from tenth.sampling.bounds import (
    DEFAULT_ADAPTER_SCALE,
    DEFAULT_GUIDANCE_SCALE,
    FULL_INTERVAL,
    MODEL_SCHEDULER,
    SETTING_RANGES,
    NumericRange,
)
from tenth.sampling.resolutions import Size, parse_size
from tenth.sampling.schedulers import SCHEDULERS, check_scheduler

IMAGE_COUNT = NumericRange(1, 10_000, integer=True)  # 0000.png to 9999.png
IMAGE, SAMPLING, SIZE = "Images", "Sampling", "Size"  # groups in the help


# How values are read


def _bounded(allowed: NumericRange, text: Any) -> Any:
    """A number within bounds."""
    try:
        value = (int if allowed.integer else float)(text)
    except ValueError:
        value = None
    if not allowed.contains(value):
        raise typer.BadParameter(f"{text!r} is not {allowed}")
    return value


def _parse_count(text: Any) -> int:
    return int(_bounded(IMAGE_COUNT, text))


def _parse_setting(name: str) -> Callable[[Any], Any]:
    """The parser of a setting of `SamplingConfig`, or of the seed: within the bounds of it."""
    return lambda text: _bounded(SETTING_RANGES[name], text)


def _parse_fraction(text: Any) -> Any:
    return _bounded(NumericRange(*FULL_INTERVAL), text)


def _parse_scheduler(text: str) -> str:
    if text != MODEL_SCHEDULER:
        try:
            check_scheduler(text, steps=1)
        except RecipeError as problem:
            raise typer.BadParameter(str(problem)) from problem
    return text


def _parse_size(text: str) -> Size:
    try:
        return parse_size(text)
    except DataError as problem:
        raise typer.BadParameter(str(problem)) from problem


def _parse_scale(text: str) -> AdapterScale:
    """A number, or JSON of some blocks."""
    if not text.lstrip().startswith("{"):
        return float(_bounded(NumericRange(0, MAX_SCALE), text))
    try:
        value: AdapterScale = parse_json(text)
        validate_scale(value)
    except ValueError as problem:
        raise typer.BadParameter(f"{text!r} is not JSON such as {EXAMPLE_SCALE}: {problem}") from problem
    except RecipeError as problem:
        raise typer.BadParameter(f"{problem.found}; {problem.needed}") from problem
    return value


# Images: what they show, how many, how they are sampled, their size

Prompt = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        parser=str,
        rich_help_panel=IMAGE,
        help='such as "a portrait photo of a person"; needed without --settings-from',
    ),
]
NegativePrompt = Annotated[
    str | None,
    typer.Option(metavar="TEXT", parser=str, rich_help_panel=IMAGE, help="what the images should not show"),
]
SettingsFrom = Annotated[
    Path | None,
    typer.Option(
        metavar="PNG", parser=Path, rich_help_panel=IMAGE, help="take what is not given here from an image that tenth made"
    ),
]
NumImages = Annotated[
    int, typer.Option("--num-images", "-n", metavar="N", parser=_parse_count, rich_help_panel=IMAGE, help="how many images")
]
Seed = Annotated[
    int | None,
    typer.Option(metavar="SEED", parser=_parse_setting("seed"), rich_help_panel=IMAGE, help="of the first [default: 0]"),
]
Steps = Annotated[
    int | None,
    typer.Option(
        metavar="S",
        parser=_parse_setting("steps"),
        rich_help_panel=SAMPLING,
        help="steps of denoising [default: the model's, 8 of pocket, 25 of others]",
    ),
]
GuidanceScale = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        parser=_parse_setting("guidance_scale"),
        rich_help_panel=SAMPLING,
        help=f"how strictly to follow prompt and person, 1 or more [default: {DEFAULT_GUIDANCE_SCALE:g}]",
    ),
]
AdapterScaleOption = Annotated[
    Any,
    typer.Option(
        "--adapter-scale",
        metavar="S",
        parser=_parse_scale,
        rich_help_panel=SAMPLING,
        help=f"how much of the person: 0 none, 1 as trained [default: {DEFAULT_ADAPTER_SCALE:g}];"
        f" or of some blocks, as diffusers names them: '{EXAMPLE_SCALE}'",
    ),
]
TextGuidance = Annotated[
    float | None,
    typer.Option(
        metavar="W",
        parser=_parse_setting("text_guidance_scale"),
        rich_help_panel=SAMPLING,
        help="follow the prompt more strictly beside a person, by W: takes half as long again [default: 0]",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=_parse_scheduler,
        rich_help_panel=SAMPLING,
        autocompletion=lambda: [MODEL_SCHEDULER, *SCHEDULERS],
        help=f"one of {', '.join((MODEL_SCHEDULER, *SCHEDULERS))} [default: own, the model's]; lcm needs a model made for it",
    ),
]
GuidanceInterval = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="FROM TO",
        parser=_parse_fraction,
        rich_help_panel=SAMPLING,
        help="guide only in this part of the denoising, 0 the noise and 1 the image: quicker [default: 0 1]",
    ),
]
Precision = Annotated[
    Literal["fp32", "bf16"] | None,
    typer.Option(
        rich_help_panel=SAMPLING,
        help="bf16: faster where the processor computes in it; colours differ by 2 of 255 at most [default: fp32]",
    ),
]
ImageSize = Annotated[
    Size | None,
    typer.Option(
        metavar="N|WxH",
        parser=_parse_size,
        rich_help_panel=SIZE,
        help="of the images, in multiples of 8 pixels [default: as the model was trained]; what is larger is made at a size"
        " that the model was trained at, enlarged and denoised again",
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        parser=_parse_setting("strength"),
        rich_help_panel=SIZE,
        help="with --size, how much is made anew after enlarging: 0 nothing, 1 all [default: 0.3; of pocket 0]",
    ),
]
FaceDetailer = Annotated[
    bool | None,
    typer.Option(
        "--face-detailer/--no-face-detailer",
        rich_help_panel=SIZE,
        help="with --size, make the face again at the model's full resolution [default: where it is small]",
    ),
]
