"""The bounds of how images are generated: one table for command line, recipe, library and PNG. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenth.core.errors import RecipeError
from tenth.core.wording import shorten
from tenth.models.prompt_weights import split_weights

DEFAULT_ADAPTER_SCALE = 1.0
MODEL_SCHEDULER = "own"  # the model's scheduler
FULL_INTERVAL = (0.0, 1.0)
PRECISIONS = ("auto", "fp32", "bf16")
MAX_PROMPT_CHARS = 20_000  # characters of a prompt


@dataclass(frozen=True)
class NumericRange:
    """Between which numbers a setting lies, both included. integer: without a fraction."""

    minimum: float
    maximum: float
    integer: bool = False

    def __str__(self) -> str:
        noun, maximum = ("whole number", str(self.maximum)) if self.integer else ("number", f"{self.maximum:g}")
        return f"a {noun} from {self.minimum:g} to {maximum}"

    def contains(self, value: object) -> bool:
        """Whether it is such a number; "not a number" is in no bounds, and yes and no are no numbers."""
        is_number = isinstance(value, int if self.integer else int | float) and not isinstance(value, bool)
        return is_number and self.minimum <= value <= self.maximum  # type: ignore[operator]  # a number, by the line above


SETTING_RANGES: Mapping[str, NumericRange] = {
    "steps": NumericRange(1, 1_000, integer=True),  # the steps in which the models were trained
    "guidance_scale": NumericRange(1, 50),  # far beyond any useful value
    "guidance_rescale": NumericRange(0, 1),
    "text_guidance_scale": NumericRange(0, 50),
    "strength": NumericRange(0, 1),  # of HiresConfig
    "seed": NumericRange(0, 2**63 - 1, integer=True),
}


def check_setting(name: str, value: Any) -> None:
    """Raises RecipeError if a setting's value is not within its range."""
    if not SETTING_RANGES[name].contains(value):
        raise _invalid_setting(name, value, str(SETTING_RANGES[name]))


def check_prompt(name: str, value: Any) -> None:
    """Raises RecipeError if a prompt is no text that a file can hold, or has a weight out of bounds (models/prompt_weights.py).

    Half a character and a zero byte are no text, a book is too long.
    """
    expected = f"a text of at most {MAX_PROMPT_CHARS:,} characters"
    if not isinstance(value, str) or len(value) > MAX_PROMPT_CHARS:
        raise _invalid_setting(name, value, expected)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid_setting(name, value, f"{expected}, in UTF-8,") from None
    if "\0" in value:
        raise _invalid_setting(name, value, f"{expected}, without zero bytes,")
    split_weights(value)


def _invalid_setting(name: str, value: Any, expected: str) -> RecipeError:
    return RecipeError(f"{name} is {shorten(repr(value))}", f"{expected} is needed", "Correct it")
