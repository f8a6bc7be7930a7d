"""A grid: the values of one to three axes, such as method, seed and prompt, -> a row to generate for each cell.

As in A1111's X/Y/Z plot, values are divided by commas, and 1-5, 1-9 (+2) and 1-10 [4] are ranges. Prompts, which hold commas,
are divided by bars instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from math import prod
from typing import Any

from tenth.core.errors import RecipeError
from tenth.core.files.reading import UnreadableError, parse_json
from tenth.core.wording import did_you_mean, pluralize, shorten
from tenth.sampling.bounds import MODEL_SCHEDULER
from tenth.sampling.config import SamplingConfig
from tenth.sampling.prompts.rows import COLUMNS, PromptRow

MAX_AXES, MAX_CELLS = 3, 1_000
NO_STYLE = "none"
NUMBER = r"\d{1,19}(?:\.\d{1,6})?"
RANGE = re.compile(rf"({NUMBER})\s*-\s*({NUMBER})(?:\s*\(\+({NUMBER})\)|\s*\[(\d{{1,6}})\])?")
SETTINGS = {  # of SamplingConfig, by the axes' names
    "steps": "steps",
    "guidance_scale": "guidance_scale",
    "adapter_scale": "ip_adapter_scale",
    "text_guidance": "text_guidance_scale",
    "scheduler": "scheduler",
    "guidance_interval": "guidance_interval",
    "precision": "precision",
}
AXES = ("method", "prompt", "negative_prompt", "seed", "size", "style", *SETTINGS)
TEXTS = ("prompt", "negative_prompt")  # divided by bars
WHOLE = ("seed", "steps")
RANGED = (*WHOLE, "guidance_scale", "adapter_scale", "text_guidance")


@dataclass(frozen=True)
class Axis:
    """What differs along an axis.

    name: one of AXES. values: as `PromptRow` or `SamplingConfig` has them. labels: as they were given. Raises RecipeError for
    more than MAX_CELLS values, or one twice.
    """

    name: str
    values: tuple[Any, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.values) > MAX_CELLS:
            raise _invalid_axis(self.name, f"has {len(self.values):,} values", f"at most {MAX_CELLS:,} are possible")
        for index, value in enumerate(self.values):
            if value in self.values[:index]:
                raise _invalid_axis(self.name, f"has {shorten(self.labels[index])} twice", "each value is needed once")

    @property
    def headings(self) -> list[str]:
        """What stands beside the images of each value: numbers say what they are."""
        if self.name in ("method", "prompt", "scheduler"):
            return list(self.labels)
        return [f"{self.name.replace('_', ' ')} {label or NO_STYLE}" for label in self.labels]


@dataclass(frozen=True)
class Grid:
    """One to three axes: of columns, of rows, and of groups of rows. Raises RecipeError for more than MAX_CELLS cells."""

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        if not 1 <= len(names) <= MAX_AXES:
            raise RecipeError(f"a grid of {len(names)} axes", f"1 to {MAX_AXES} are needed", "Give the others a value each")
        if len(set(names)) < len(names):
            found = next(name for name in names if names.count(name) > 1)
            raise RecipeError(f"two axes of {found}", "each axis has a name of its own", "Give all values in one --grid")
        if self.num_cells > MAX_CELLS:
            action = "Leave out values, or make several grids"
            raise RecipeError(f"a grid of {self.num_cells:,} cells", f"at most {MAX_CELLS:,} are possible", action)

    @property
    def num_cells(self) -> int:
        """The number of images."""
        return prod(len(axis.values) for axis in self.axes)

    def rows(self, base: PromptRow | None = None) -> list[PromptRow]:
        """A row of one image for each cell: those of the first axis side by side, then the next value of the second.

        base: what the axes do not say. Raises RecipeError if neither says a prompt.
        """
        named = {axis.name for axis in self.axes}
        if base is None and "prompt" not in named:
            raise RecipeError("a grid without a prompt", "one is needed for all cells", "Give --prompt, or an axis of prompts")
        rows = []
        cells = product(*(range(len(axis.values)) for axis in reversed(self.axes)))
        for number, indices in enumerate(cells, 1):
            own: dict[str, Any] = {}
            labels = []
            for axis, index in zip(self.axes, reversed(indices), strict=True):
                own[axis.name] = axis.values[index]
                labels.append(f"{axis.name}={shorten(axis.labels[index])}")
            sampling = {SETTINGS[name]: own.pop(name) for name in list(own) if name in SETTINGS}
            source = f"cell {number} of the grid ({', '.join(labels)})"
            rows.append(replace(base or PromptRow(""), num_images=1, source=source, sampling=sampling, **own))
        return rows

    def to_table(self) -> list[dict[str, Any]]:
        """The axes, for run.json."""
        return [{"name": axis.name, "values": list(axis.labels)} for axis in self.axes]


def parse_axis(text: str) -> Axis:
    """An axis of `name=value,value`. Raises RecipeError for an unknown name, or a value that no option would take.

    Commas within braces or brackets do not divide, nor do bars of prompts within braces, or after a backslash.
    """
    name, equals, said = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or name not in AXES:
        action = f"{did_you_mean(name, AXES)}Write --grid NAME=VALUE,VALUE"
        found = f"{shorten(repr(name))} is not an axis" if equals else f"{shorten(repr(text))} has no ="
        raise RecipeError(found, f"choose from: {', '.join(AXES)}", action)
    divider = "|" if name in TEXTS else ","
    parts = [part.strip() for part in _divided(said, divider)]
    if name in RANGED:
        parts = [each for part in parts for each in _expanded(name, part)]
    if name != "negative_prompt" and "" in parts:
        raise _invalid_axis(name, "has an empty value", f"a value is needed on both sides of each {divider}")
    return Axis(name, tuple(_parse_value(name, part) for part in parts), tuple(parts))


def _parse_value(name: str, text: str) -> Any:
    """A value as `PromptRow` or `SamplingConfig` has it."""
    if name in COLUMNS:
        return COLUMNS[name](text)
    if name not in SETTINGS:
        return "" if text == NO_STYLE else text
    value: Any = text
    try:
        if name == "guidance_interval":
            value = [float(each) for each in text.split()]
        elif name == "scheduler":
            value = "" if text == MODEL_SCHEDULER else text
        elif name in RANGED:
            value = parse_json(text)
    except (ValueError, UnreadableError):
        raise _invalid_axis(name, f"has {shorten(repr(text))}", "a number is needed") from None
    return getattr(SamplingConfig(**{SETTINGS[name]: value}), SETTINGS[name])


def _divided(text: str, divider: str) -> Iterator[str]:
    """The parts between dividers that are neither within braces or brackets nor after a backslash, which stays."""
    part, depth = "", 0
    for found in re.finditer(r"\\.|.", text, re.DOTALL):
        character = found[0]
        depth = max(0, depth + (character in "{[") - (character in "}]"))
        if character == divider and not depth:
            yield part
            part = ""
        else:
            part += character
    yield part


def _expanded(name: str, text: str) -> Sequence[str]:
    """The numbers of a range; of what is none, itself."""
    found = RANGE.fullmatch(text)
    if found is None:
        return [text]
    first, last = Decimal(found[1]), Decimal(found[2])
    if first > last:
        raise _invalid_axis(name, f"has the range {text}", "the smaller number is needed first")
    step = Decimal(found[3] or 1)
    if found[4] is not None:
        count, step = int(found[4]), (last - first)
    elif not step:
        raise _invalid_axis(name, f"has the range {text}", "steps above 0 are needed")
    else:
        count = int((last - first) / step) + 1
    if not 1 <= count <= MAX_CELLS:
        raise _invalid_axis(name, f"has {pluralize(count, 'value')} in {text}", f"1 to {MAX_CELLS:,} are possible")
    parts = 1 if found[4] is None else max(1, count - 1)  # divided last, so that the last number is exact
    numbers = [first + index * step / parts for index in range(count)]
    return [str(int(number)) if name in WHOLE else f"{float(number):g}" for number in numbers]


def _invalid_axis(name: str, found: str, needed: str) -> RecipeError:
    return RecipeError(f"the axis {name} {found}", needed, "Correct --grid")
