"""The settings by which images are generated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainValidator

from tenth.core.config import config_dataclass, one_of
from tenth.models.adapters.adapter_scale import AdapterScale, validate_scale
from tenth.sampling.bounds import (
    DEFAULT_ADAPTER_SCALE,
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_STEPS,
    FULL_INTERVAL,
    PRECISIONS,
    SETTING_RANGES,
    NumericRange,
    check_prompt,
)
from tenth.sampling.schedulers import check_scheduler


def _within_range(name: str) -> BeforeValidator:
    """A validator by the entry of SETTING_RANGES."""

    def validate(value: Any) -> Any:
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

    Raises RecipeError for invalid values, from the command line, recipes and PNGs as well.
    """

    steps: Annotated[int, _within_range("steps")] = DEFAULT_STEPS
    # Classifier-free, on text and image together; 1 turns it off.
    guidance_scale: Annotated[float, _within_range("guidance_scale")] = DEFAULT_GUIDANCE_SCALE
    # Of the guided prediction's contrast to the plain one's: Lin et al. 2023, arXiv:2305.08891, eq. 16.
    guidance_rescale: Annotated[float, _within_range("guidance_rescale")] = 0.5
    # Of the image cross-attention; of some blocks alone: {"up": {"block_0": [0, 1, 0]}}.
    ip_adapter_scale: Annotated[AdapterScale, PlainValidator(_validated_scale)] = DEFAULT_ADAPTER_SCALE
    negative_prompt: str = ""
    scheduler: str = ""  # a name of schedulers.py; "": the model's own
    # From pure noise, 0, to the image, 1: guidance.py.
    guidance_interval: Annotated[tuple[float, float], BeforeValidator(_validated_interval)] = FULL_INTERVAL
    # Further guidance on the prompt beside a person: guidance.py.
    text_guidance_scale: Annotated[float, _within_range("text_guidance_scale")] = 0.0
    # bf16: where a processor computes in it, in less time; pixels move by 2/255 at most.
    precision: Annotated[str, one_of(PRECISIONS)] = "fp32"

    def __post_init__(self) -> None:
        check_prompt("negative_prompt", self.negative_prompt)
        check_scheduler(self.scheduler, self.steps)
