"""How pictures are drawn, and its bounds: one set for command line, recipe, library and PNG. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenth.core.errors import RecipeError
from tenth.core.wording import shorten
from tenth.models.adapters.adapter_scale import AdapterScale, validate_scale
from tenth.sampling.schedulers import check_scheduler

MODEL_SCHEDULER = "own"  # the model's scheduler


FULL_INTERVAL = (0.0, 1.0)
PRECISIONS = ("fp32", "bf16")
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
    "guidance_scale": NumericRange(1, 50),  # far beyond what gives a picture
    "guidance_rescale": NumericRange(0, 1),
    "text_guidance_scale": NumericRange(0, 50),
    "strength": NumericRange(0, 1),  # of HiresConfig
    "seed": NumericRange(0, 2**63 - 1, integer=True),
}


@dataclass(frozen=True)
class SamplingConfig:
    """How images are drawn. The defaults were chosen on validation people for the pocket model (docs/log.md).

    Raises RecipeError for what cannot be: it is what the command line, recipes and pictures are held to as well.
    """

    steps: int = 25
    guidance_scale: float = 2.0  # classifier-free, on text and image together; 1 turns it off
    guidance_rescale: float = 0.5  # of the guided prediction's contrast to the plain one's: arXiv:2305.08891, eq. 16
    ip_adapter_scale: AdapterScale = 1.0  # of the image cross-attention; of some blocks alone: {"up": {"block_0": [0, 1, 0]}}
    negative_prompt: str = ""
    scheduler: str = ""  # a name of schedulers.py; "": the model's own
    guidance_interval: tuple[float, float] = FULL_INTERVAL  # from pure noise, 0, to the image, 1: guidance.py
    text_guidance_scale: float = 0.0  # further guidance on the prompt beside a person: guidance.py
    precision: str = "fp32"  # or bf16: where a processor computes in it, in less time; pixels move by 2/255 at most

    def __post_init__(self) -> None:
        for name in ("steps", "guidance_scale", "guidance_rescale", "text_guidance_scale"):
            check_setting(name, getattr(self, name))
        validate_scale(self.ip_adapter_scale)
        check_prompt("negative_prompt", self.negative_prompt)
        check_scheduler(self.scheduler, self.steps)
        _check_interval(self.guidance_interval)
        if self.precision not in PRECISIONS:
            raise _invalid_setting("precision", self.precision, f"one of {', '.join(PRECISIONS)}")


def check_setting(name: str, value: Any) -> None:
    """Raises RecipeError if a setting's value is not within its BOUNDS."""
    if not SETTING_RANGES[name].contains(value):
        raise _invalid_setting(name, value, str(SETTING_RANGES[name]))


def check_prompt(name: str, value: Any) -> None:
    """Raises RecipeError if a prompt is no text that a file can hold: half a character is none, a book is too long."""
    expected = f"a text of at most {MAX_PROMPT_CHARS:,} characters"
    if not isinstance(value, str) or len(value) > MAX_PROMPT_CHARS:
        raise _invalid_setting(name, value, expected)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _invalid_setting(name, value, f"{expected}, in UTF-8,") from None


def _check_interval(interval: Sequence[float]) -> None:
    valid = (
        isinstance(interval, list | tuple) and len(interval) == 2 and all(map(NumericRange(*FULL_INTERVAL).contains, interval))
    )
    if not valid or interval[0] > interval[1]:
        message = f"guidance_interval is {shorten(list(interval) if isinstance(interval, tuple) else interval)}"
        raise RecipeError(message, "two numbers from 0 to 1 are needed, the second not below the first", "Correct it")


def _invalid_setting(name: str, value: Any, expected: str) -> RecipeError:
    return RecipeError(f"{name} is {shorten(repr(value))}", f"{expected} is needed", "Correct it")
