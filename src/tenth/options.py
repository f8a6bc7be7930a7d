"""What the commands' parsers share: how a command is added, options that several have, numbers within bounds."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from functools import partial
from typing import Any

from tenth.errors import DataError
from tenth.sizes import Size, parse_size

MOST_IMAGES = 10_000  # 0000.png to 9999.png
LARGEST_SEED = 2**63 - 1
MOST_STEPS = 1_000  # the steps in which the models were trained
MOST_GUIDANCE, MOST_SCALE = 50.0, 2.0  # far beyond what gives a picture
WIDTH = 100  # of the help, in every terminal, so that docs/cli.md can be checked


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of one width everywhere, its examples as they stand."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=WIDTH)
        self._action_max_length = 16  # else the longest command breaks its line: argparse forgets that commands are indented


def add_command(
    adding: Any, name: str, text: str, run: Callable[[argparse.Namespace], int] | None, more: str = ""
) -> ArgumentParser:
    """A command. text: its line in the list of commands. more: what its own help says besides."""
    description = text[0].upper() + text[1:] + "."
    parser: ArgumentParser = adding.add_parser(
        name, help=text, description=f"{description}\n\n{more}".rstrip(), formatter_class=Formatter, allow_abbrev=False
    )
    parser.set_defaults(run=run, usage_error=parser.error)
    return parser


def json_option(parser: ArgumentParser) -> None:
    """--json."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def model_option(parser: ArgumentParser) -> None:
    """--model."""
    text = "one of `tenth models`, or a folder that `tenth train` wrote (default: pocket)"
    parser.add_argument("--model", default="pocket", metavar="NAME", help=text)


def whole(least: int, most: int) -> Callable[[str], int]:
    """The type of an option: a whole number within bounds, both included."""
    return partial(_within, int, f"a whole number from {least} to {most}", least, most)


def number(least: float, most: float) -> Callable[[str], float]:
    """The type of an option: a number within bounds, both included."""
    return partial(_within, float, f"a number from {least:g} to {most:g}", least, most)


def size(text: str) -> Size:
    """The type of an option: the size of a picture."""
    try:
        return parse_size(text)
    except DataError as problem:
        raise ArgumentTypeError(str(problem)) from problem


def _within(kind: Callable[[str], Any], needed: str, least: float, most: float, text: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not least <= value <= most:  # nan is in no range
        raise ArgumentTypeError(f"{text!r} is not {needed}")
    return value


def inception_option(parser: ArgumentParser) -> None:
    """--inception."""
    parser.add_argument(
        "--inception",
        metavar="FILE",
        help="for FID, KID and Inception Score: the standard file, an address to download it from once, or random:SEED to try",
    )
