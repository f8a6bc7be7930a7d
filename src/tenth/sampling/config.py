"""The settings by which images are generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, PlainValidator

from tenth.core.config import config_dataclass, one_of
from tenth.models.adapters.adapter_scale import AdapterScale, validate_scale
from tenth.sampling.bounds import (
    DEFAULT_ADAPTER_SCALE,
    FULL_INTERVAL,
    PRECISIONS,
    SETTING_RANGES,
    NumericRange,
    check_prompt,
)
from tenth.sampling.schedulers import check_scheduler

if TYPE_CHECKING:
    from tenth.core.types import DefaultSampling, DiffusionModel

# The settings that each model has defaults for.
MODELS_OWN = ("steps", "guidance_scale", "guidance_rescale")


def within_range(name: str) -> BeforeValidator:
    """A validator by the entry of SETTING_RANGES."""

    def validate(value: Any) -> Any:
        if value is None and name in MODELS_OWN:
            return value
        if not SETTING_RANGES[name].contains(value):
            raise ValueError(str(SETTING_RANGES[name]))
        return value

    return BeforeValidator(validate)


def _validated_scale(scale: AdapterScale) -> AdapterScale:
    validate_scale(scale)
    return scale if isinstance(scale, Mapping) else float(scale)


def _validated_interval(value: Any) -> Any:
    pair = isinstance(value, list | tuple) and len(value) == 2 and all(map(NumericRange(*FULL_INTERVAL).contains, value))
    if not pair or value[0] > value[1]:
        raise ValueError("two numbers from 0 to 1, the second not below the first")
    return tuple(value)


@config_dataclass
class SamplingConfig:
    """How images are generated. The defaults were chosen on validation people for the pocket model (docs/log.md).

    None: the model's own, `default_sampling`. Raises RecipeError for invalid values, from the command line, recipes and PNGs
    as well.
    """

    steps: Annotated[int | None, within_range("steps")] = None
    # Classifier-free, on text and image together; 1 turns it off.
    guidance_scale: Annotated[float | None, within_range("guidance_scale")] = None
    # The share by which the guided prediction is corrected to be as the plain one: guidance.py.
    guidance_rescale: Annotated[float | None, within_range("guidance_rescale")] = None
    # Of the image cross-attention; of some blocks alone: {"up": {"block_0": [0, 1, 0]}}.
    ip_adapter_scale: Annotated[AdapterScale, PlainValidator(_validated_scale)] = DEFAULT_ADAPTER_SCALE
    negative_prompt: str = ""
    scheduler: str = ""  # a name of schedulers.py; "": the model's own
    # From pure noise, 0, to the image, 1: guidance.py.
    guidance_interval: Annotated[tuple[float, float], BeforeValidator(_validated_interval)] = FULL_INTERVAL
    # Further guidance on the prompt, without the person: guidance.py.
    text_guidance_scale: Annotated[float, within_range("text_guidance_scale")] = 0.0
    # auto: fp32 on torch, and in compiled networks (models/compiled.py) bf16 where the processor computes in it.
    precision: Annotated[str, one_of(PRECISIONS)] = "auto"

    def __post_init__(self) -> None:
        check_prompt("negative_prompt", self.negative_prompt)
        check_scheduler(self.scheduler, self.steps or 1)

    def for_model(self, model: DiffusionModel) -> SamplingConfig:
        """The same settings, with the model's own where none was chosen."""
        return self.completed_by(model.default_sampling)

    def completed_by(self, other: SamplingConfig | DefaultSampling) -> SamplingConfig:
        """The same settings, with others' where those that a model has of its own are left open."""
        return replace(self, **{name: getattr(other, name) for name in MODELS_OWN if getattr(self, name) is None})
