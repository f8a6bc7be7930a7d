"""How pictures are drawn, and its bounds: one set for command line, recipe, library and PNG. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tenth.core.config import later
from tenth.core.errors import RecipeError
from tenth.core.wording import brief
from tenth.models.adapters.adapter_scale import Scale, check_scale
from tenth.sampling.schedulers import check_scheduler

OWN = "own"  # the model's scheduler


ALWAYS = (0.0, 1.0)
PRECISIONS = ("fp32", "bf16")
MOST_TEXT = 20_000  # characters of a prompt


@dataclass(frozen=True)
class Bounds:
    """Between which numbers a setting lies, both included. whole: without a fraction."""

    least: float
    most: float
    whole: bool = False

    def __str__(self) -> str:
        kind, most = ("whole number", str(self.most)) if self.whole else ("number", f"{self.most:g}")
        return f"a {kind} from {self.least:g} to {most}"

    def hold(self, value: object) -> bool:
        """Whether it is such a number; "not a number" is in no bounds, and yes and no are no numbers."""
        right = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return right and self.least <= value <= self.most  # type: ignore[operator]  # a number, by the line above


BOUNDS: Mapping[str, Bounds] = {
    "steps": Bounds(1, 1_000, whole=True),  # the steps in which the models were trained
    "guidance": Bounds(1, 50),  # far beyond what gives a picture
    "rescale": Bounds(0, 1),
    "words": Bounds(0, 50),
    "strength": Bounds(0, 1),  # of HighRes
    "seed": Bounds(0, 2**63 - 1, whole=True),
}


@dataclass(frozen=True)
class Sampling:
    """How images are drawn. The defaults were chosen on validation people for the pocket model (docs/log.md).

    Raises RecipeError for what cannot be: it is what the command line, recipes and pictures are held to as well.
    """

    steps: int = 25
    guidance: float = 2.0  # classifier-free, on text and image together; 1 turns it off
    rescale: float = 0.5  # of the guided prediction's contrast to the plain one's: Lin et al. 2023, arXiv:2305.08891, eq. 16
    scale: Scale = 1.0  # of the image cross-attention; of some blocks alone: {"up": {"block_0": [0, 1, 0]}}
    negative: str = ""
    scheduler: str = later("")  # a name of schedulers.py; "": the model's own
    guidance_interval: tuple[float, float] = later(ALWAYS)  # from pure noise, 0, to the image, 1: guidance.py
    words: float = later(0.0)  # further guidance on the prompt beside a person: guidance.py
    precision: str = later("fp32")  # or bf16: where a processor computes in it, in less time; pixels move by 2/255 at most

    def __post_init__(self) -> None:
        for name in ("steps", "guidance", "rescale", "words"):
            check(name, getattr(self, name))
        check_scale(self.scale)
        check_text("negative", self.negative)
        check_scheduler(self.scheduler, self.steps)
        _check_interval(self.guidance_interval)
        if self.precision not in PRECISIONS:
            raise _wrong("precision", self.precision, f"one of {', '.join(PRECISIONS)}")


def check(name: str, value: Any) -> None:
    """Raises RecipeError if a setting's value is not within its BOUNDS."""
    if not BOUNDS[name].hold(value):
        raise _wrong(name, value, str(BOUNDS[name]))


def check_text(name: str, value: Any) -> None:
    """Raises RecipeError if a prompt is no text that a file can hold: half a character is none, a book is too long."""
    needed = f"a text of at most {MOST_TEXT:,} characters"
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise _wrong(name, value, needed)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _wrong(name, value, f"{needed}, in UTF-8,") from None


def _check_interval(interval: Sequence[float]) -> None:
    numbers = isinstance(interval, list | tuple) and len(interval) == 2 and all(map(Bounds(*ALWAYS).hold, interval))
    if not numbers or interval[0] > interval[1]:
        found = f"guidance_interval is {brief(list(interval) if isinstance(interval, tuple) else interval)}"
        raise RecipeError(found, "two numbers from 0 to 1 are needed, the second not below the first", "Correct it")


def _wrong(name: str, value: Any, needed: str) -> RecipeError:
    return RecipeError(f"{name} is {brief(repr(value))}", f"{needed} is needed", "Correct it")
