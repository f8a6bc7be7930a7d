"""The options of `tenth generate` alone: what images show, how many, how they are sampled, their size."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from tenth.cli.parameters import choice, option
from tenth.core.errors import InputError, RecipeError
from tenth.core.files.reading import parse_json
from tenth.models.adapters.adapter_scale import EXAMPLE_SCALE, MAX_SCALE, AdapterScale, validate_scale
from tenth.sampling import bounds
from tenth.sampling.bounds import MODEL_SCHEDULER, SETTING_RANGES, NumericRange
from tenth.sampling.passes.resolutions import Size, parse_size
from tenth.sampling.prompts.rows import NUM_IMAGES
from tenth.sampling.schedulers import SCHEDULERS, check_scheduler

if TYPE_CHECKING:
    from tenth.sampling.prompts.grid import Axis

T = TypeVar("T")


# How values are read


def _number(text: str, allowed: NumericRange) -> Any:
    """A number within bounds."""
    try:
        value = (int if allowed.integer else float)(text)
    except ValueError:
        value = None
    if not allowed.contains(value):
        raise typer.BadParameter(f"{text!r} is not {allowed}")
    return value


def _setting(name: str) -> Callable[[str], Any]:
    """The parser of a setting of `SamplingConfig`, or of the seed: within the bounds of it."""
    return lambda text: _number(text, SETTING_RANGES[name])


def _checked(check: Callable[[str], T]) -> Callable[[str], T]:
    """The parser of what a check returns; its error is one of the option."""

    def parse(text: str) -> T:
        try:
            return check(text)
        except InputError as problem:
            raise typer.BadParameter(str(problem)) from problem

    return parse


def _scheduler(name: str) -> str:
    if name != MODEL_SCHEDULER:
        check_scheduler(name, steps=1)
    return name


def _axis(text: str) -> Axis:
    from tenth.sampling.prompts.grid import parse_axis

    return parse_axis(text)


def _scale(text: str) -> AdapterScale:
    """A number, or JSON of some blocks."""
    if not text.lstrip().startswith("{"):
        return float(_number(text, NumericRange(0, MAX_SCALE)))
    try:
        value: AdapterScale = parse_json(text)
        validate_scale(value)
    except ValueError as problem:
        raise typer.BadParameter(f"{text!r} is not JSON such as {EXAMPLE_SCALE}: {problem}") from problem
    except RecipeError as problem:
        raise typer.BadParameter(f"{problem.found}; {problem.needed}") from problem
    return value


# Images: what they show, how many
of_images = partial(option, group="Images")
PROMPT_HELP = (
    'such as "a portrait photo of a person"; needed without --settings-from or --prompts; may be given several times, for N'
    " images each"
)
PROMPTS_HELP = (
    "prompts from a file: .txt, one a line, or .csv or .jsonl with columns prompt, negative_prompt, seed, size, method and"
    " num_images"
)
STYLE_HELP = "put every prompt into a style, which has a negative prompt too"
STYLES_HELP = "a TOML file of your own styles, instead of those that come with tenth"
WILDCARDS_HELP = "a folder whose NAME.txt has the lines of __NAME__ in prompts [default: wildcards, if there is one]"
DEFAULT_NUM_IMAGES = 4  # of a prompt; of a row of a file 1
GRID_HELP = (
    "an image for each combination of values, and a sheet of them: method=A,B or seed=1-4 or steps=4,8 or"
    ' "prompt=TEXT|TEXT", also of other settings; given up to three times, for columns, rows and groups of rows'
)
COUNT_HELP = "how many images of each prompt [default: 4; of a row of --prompts 1]"
Prompt = Annotated[list[str] | None, of_images("TEXT", PROMPT_HELP, parser=str)]
PromptsFile = Annotated[Path | None, of_images("FILE", PROMPTS_HELP)]
GridAxes = Annotated[list[Any] | None, of_images("NAME=VALUES", GRID_HELP, "--grid", parser=_checked(_axis))]
StyleName = Annotated[str | None, of_images("NAME", STYLE_HELP, "--style", parser=str)]
StylesFile = Annotated[Path | None, of_images("FILE", STYLES_HELP, "--styles")]
WildcardsFolder = Annotated[Path | None, of_images("DIR", WILDCARDS_HELP, "--wildcards")]
NegativePrompt = Annotated[
    str | None, of_images("TEXT", "what the images should not show; read where there is guidance", parser=str)
]
SettingsFrom = Annotated[Path | None, of_images("PNG", "take what is not given here from an image that tenth made")]
NumImages = Annotated[
    int | None, of_images("N", COUNT_HELP, "--num-images", "-n", parser=lambda text: _number(text, NUM_IMAGES))
]
CANDIDATES_HELP = "draw M images, and keep the best -n of them: most like the photos, sharp, whole, no copy"
KEEP_ALL_HELP = "keep all --candidates too, in a folder of that name"
Candidates = Annotated[int | None, of_images("M", CANDIDATES_HELP, parser=lambda text: _number(text, NUM_IMAGES))]
KeepAll = Annotated[bool, typer.Option("--keep-all", rich_help_panel="Images", help=KEEP_ALL_HELP)]
Seed = Annotated[int | None, of_images("SEED", "of the first [default: 0]", parser=_setting("seed"))]

# How they are sampled
of_sampling = partial(option, group="Sampling")
STEPS_HELP = "steps of denoising [default: the model's, 4 of pocket, 25 of others]"
GUIDANCE_HELP = "how strictly to follow prompt and person, 1 or more [default: the model's, 1 of pocket]"
SCALE_HELP = (
    f"how much of the person: 0 none, 1 as trained [default: {bounds.DEFAULT_ADAPTER_SCALE:g}];"
    f" or of some blocks, as diffusers names them: '{EXAMPLE_SCALE}'"
)
TEXT_HELP = "how strictly to follow the prompt, whoever is shown, 0 or more [default: 0]"
SCHEDULER_NAMES = (MODEL_SCHEDULER, *SCHEDULERS)
SCHEDULER_HELP = f"one of {', '.join(SCHEDULER_NAMES)} [default: own, the model's]; lcm and tcd need a model made for them"
INTERVAL = NumericRange(*bounds.FULL_INTERVAL)
INTERVAL_HELP = "guide only in this part of the denoising, 0 the noise and 1 the image: quicker [default: 0 1]"
PRECISION_HELP = "auto: bf16 on openvino where the processor computes in it, else fp32; pixels differ slightly [default: auto]"
Steps = Annotated[int | None, of_sampling("S", STEPS_HELP, parser=_setting("steps"))]
GuidanceScale = Annotated[float | None, of_sampling("W", GUIDANCE_HELP, parser=_setting("guidance_scale"))]
AdapterScaleOption = Annotated[Any, of_sampling("S", SCALE_HELP, "--adapter-scale", parser=_scale)]
TextGuidance = Annotated[float | None, of_sampling("W", TEXT_HELP, parser=_setting("text_guidance_scale"))]
Scheduler = Annotated[
    str | None, of_sampling("NAME", SCHEDULER_HELP, parser=_checked(_scheduler), autocompletion=lambda: list(SCHEDULER_NAMES))
]
GuidanceInterval = Annotated[
    tuple[float, float] | None, of_sampling("FROM TO", INTERVAL_HELP, parser=lambda text: _number(text, INTERVAL))
]
FAST_HELP = "6 steps without guidance, as a model or --lora that was distilled for it needs: --steps 4 to 8"
Fast = Annotated[Literal["lcm", "tcd"] | None, choice("lcm", "tcd", text=FAST_HELP, group="Sampling")]
Precision = Annotated[str | None, choice("auto", "fp32", "bf16", text=PRECISION_HELP, group="Sampling")]

# A picture that they start from
of_start = partial(option, group="Start image")
IMAGE_HELP = "start from this picture instead of noise, under the same person; pocket takes the square around its face"
MASK_HELP = "with --image, of its size: white is made anew, black stays to the last bit, at the picture's own size"
StartImageFile = Annotated[Path | None, of_start("FILE", IMAGE_HELP, "--image")]
MaskFile = Annotated[Path | None, of_start("FILE", MASK_HELP, "--mask")]
STRENGTH_HELP = (
    "how much is made anew, 0 nothing, 1 all: with --image of that picture [default: 0.6], else with --size"
    " of the enlarged image [default: 0.3; of pocket 0]"
)
Strength = Annotated[float | None, of_start("S", STRENGTH_HELP, parser=_setting("strength"))]

# Their size
of_size = partial(option, group="Size")
SIZE_HELP = (
    "of the images, in multiples of 8 pixels [default: as the model was trained, 128 of pocket]; what is larger is made"
    " at a size that the model was trained at, enlarged and denoised again"
)
FACE_HELP = "with --size, make the face again at the model's full resolution [default: where it is small]"
FACE_NAMES = "--face-detailer/--no-face-detailer"
ImageSize = Annotated[Size | None, of_size("N|WxH", SIZE_HELP, parser=_checked(parse_size))]
FaceDetailer = Annotated[bool | None, typer.Option(FACE_NAMES, rich_help_panel="Size", help=FACE_HELP)]
