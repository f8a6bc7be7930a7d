"""What the commands' parsers share: how a command is added, options that several have, numbers within bounds."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tenth.core.errors import DataError, RecipeError
from tenth.core.files.reading import parse_json
from tenth.models.adapters.adapter_scale import EXAMPLE_SCALE, MAX_SCALE, AdapterScale, validate_scale
from tenth.sampling.config import FULL_INTERVAL, MODEL_SCHEDULER, PRECISIONS, SETTING_RANGES, NumericRange
from tenth.sampling.resolutions import Size, parse_size
from tenth.sampling.schedulers import SCHEDULERS, check_scheduler

IMAGE_COUNT = NumericRange(1, 10_000, integer=True)  # 0000.png to 9999.png

MAY_BE_EMPTY = ("prompt", "negative_prompt")
HELP_WIDTH = 100  # of the help, in every terminal, so that docs/cli.md can be checked


class _SingleUse(argparse.Action):
    """An option that is given twice is wrong usage: which of the two was meant, nobody can tell."""

    def __call__(self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None) -> None:
        given = vars(namespace).setdefault("given", set())
        if option_string is not None and self.dest in given:
            raise argparse.ArgumentError(self, "is given twice; give it once")
        given.add(self.dest)
        super().__call__(parser, namespace, values, option_string)


class _StoreOnce(_SingleUse, argparse._StoreAction):
    """--option VALUE."""


class _StoreTrueOnce(_SingleUse, argparse._StoreTrueAction):
    """--option."""


class _BooleanOnce(_SingleUse, argparse.BooleanOptionalAction):
    """--option or --no-option."""


class Parser(ArgumentParser):
    """A parser whose options, and whose commands' options, are given once. Parsed arguments carry `given`, their names."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        for name, action in {
            None: _StoreOnce,
            "store": _StoreOnce,
            "store_true": _StoreTrueOnce,
            "yes-or-no": _BooleanOnce,
        }.items():
            self.register("action", name, action)

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        """Nothing, as an unset variable of a shell leaves it, is no path and no name: as a path it would be this folder."""
        may_be = action.nargs == argparse.PARSER or action.dest in MAY_BE_EMPTY  # the former: a command's own arguments
        if arg_string == "" and action.default != "" and not may_be:
            raise argparse.ArgumentError(action, "'' is given; leave it out, or say what")
        return super()._get_value(action, arg_string)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Help of one width everywhere, its examples as they stand."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=HELP_WIDTH)
        self._action_max_length = 16  # else the longest command breaks its line: argparse forgets that commands are indented


def add_command(
    subparsers: Any, name: str, text: str, run: Callable[[Namespace], int] | None, details: str = ""
) -> ArgumentParser:
    """A command. text: its line in the list of commands. more: what its own help says besides."""
    description = text[0].upper() + text[1:] + "."
    parser: ArgumentParser = subparsers.add_parser(
        name, help=text, description=f"{description}\n\n{details}".rstrip(), formatter_class=HelpFormatter, allow_abbrev=False
    )
    parser.set_defaults(run=run, usage_error=parser.error)
    return parser


def json_option(parser: ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def model_option(parser: ArgumentParser) -> None:
    """--model."""
    text = "one of `tenth models`, owner/name of one downloaded from the hub, or a model's folder (default: pocket)"
    parser.add_argument("--model", default="pocket", metavar="NAME", help=text)
    text = "where it runs (default: cuda for a large model where torch finds a GPU, else cpu)"
    parser.add_argument("--device", choices=("cpu", "cuda"), default="", help=text)


def adapter_option(parser: ArgumentParser) -> None:
    """--adapter and --lora."""
    text = "an IP-Adapter's .safetensors of this model (plain, Plus, Full), instead of the model's own"
    parser.add_argument("--adapter", type=Path, metavar="FILE", help=text)
    text = "a LoRA's .safetensors for this model, such as one that makes few steps do (with --scheduler lcm)"
    parser.add_argument("--lora", type=Path, metavar="FILE", help=text)


def bounded_number(allowed: NumericRange) -> Callable[[str], Any]:
    """The type of an option: a number within bounds."""

    def parse(text: str) -> Any:
        try:
            value = (int if allowed.integer else float)(text)
        except ValueError:
            value = None
        if not allowed.contains(value):
            raise ArgumentTypeError(f"{text!r} is not {allowed}")
        return value

    return parse


def setting_type(name: str) -> Callable[[str], Any]:
    """The type of an option that is a setting of `SamplingConfig`, or the seed: within the bounds of it."""
    return bounded_number(SETTING_RANGES[name])


def scheduler_type(text: str) -> str:
    """The type of --scheduler."""
    if text != MODEL_SCHEDULER:
        try:
            check_scheduler(text, steps=1)
        except RecipeError as problem:
            raise ArgumentTypeError(str(problem)) from problem
    return text


def size_type(text: str) -> Size:
    """The type of an option: the size of a picture."""
    try:
        return parse_size(text)
    except DataError as problem:
        raise ArgumentTypeError(str(problem)) from problem


def scale_type(text: str) -> AdapterScale:
    """The type of --scale: a number, or JSON of some blocks."""
    if not text.lstrip().startswith("{"):
        return float(bounded_number(NumericRange(0, MAX_SCALE))(text))
    try:
        value: AdapterScale = parse_json(text)
        validate_scale(value)
    except ValueError as problem:
        raise ArgumentTypeError(f"{text!r} is not JSON such as {EXAMPLE_SCALE}: {problem}") from problem
    except RecipeError as problem:
        raise ArgumentTypeError(f"{problem.found}; {problem.needed}") from problem
    return value


def sampling_options(parser: ArgumentParser) -> None:
    """--scale, --words, --scheduler, --guidance-interval and --precision."""
    parser.add_argument(
        "--scale",
        dest="ip_adapter_scale",
        type=scale_type,
        metavar="S",
        help="how much of the person: 0 nothing, 1 as trained (default: 1); or of some blocks alone, as diffusers names"
        f" them: '{EXAMPLE_SCALE}'",
    )
    parser.add_argument(
        "--words",
        dest="text_guidance_scale",
        type=setting_type("text_guidance_scale"),
        metavar="W",
        help="follow the prompt more strictly beside a person, by W: takes half as long again (default: 0)",
    )
    parser.add_argument(
        "--scheduler",
        type=scheduler_type,
        metavar="NAME",
        help=f"one of {', '.join((MODEL_SCHEDULER, *SCHEDULERS))} (default: own, the model's); lcm needs a model made for it",
    )
    parser.add_argument(
        "--guidance-interval",
        nargs=2,
        type=bounded_number(NumericRange(*FULL_INTERVAL)),
        metavar=("FROM", "TO"),
        help="guide only in this part of the denoising, 0 the noise and 1 the picture: quicker (default: 0 1)",
    )
    text = "bf16: faster where the processor computes in it; colours differ by 2 of 255 at most (default: fp32)"
    parser.add_argument("--precision", choices=PRECISIONS, help=text)


def size_options(parser: ArgumentParser) -> None:
    """--size, --strength and --face-pass."""
    parser.add_argument(
        "--size",
        type=size_type,
        metavar="N|WxH",
        help="of the pictures, in multiples of 8 pixels (default: as the model was trained); what is larger is drawn at a size "
        "that the model was trained at, enlarged and drawn again",
    )
    parser.add_argument(
        "--strength",
        type=setting_type("strength"),
        metavar="S",
        help="with --size, how much is drawn anew after enlarging: 0 nothing, 1 all (default: 0.3; of pocket 0)",
    )
    parser.add_argument(
        "--face-pass",
        action="yes-or-no",
        help="with --size, draw the face again at the model's full resolution (default: where it is small)",
    )


def inception_option(parser: ArgumentParser) -> None:
    """--inception."""
    parser.add_argument(
        "--inception",
        metavar="FILE",
        help="for FID, KID and Inception Score: the standard file, an address to download it from once, or random:SEED to try",
    )
