"""Which settings a frontier is made of: each text guidance scale with each adapter scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated

from pydantic import Field

from tenth.core.config import MAX_NUMBER, SomeItems, config_dataclass, one_of, require
from tenth.evaluation.registry import metrics_for
from tenth.sampling.config import SamplingConfig

PROMPT_METRICS = tuple(metric.name for metric in metrics_for("prompts"))
Coordinate = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]


@dataclass(frozen=True)
class FrontierSetting:
    """The two settings that trade the prompt for the person."""

    text_guidance_scale: float
    ip_adapter_scale: float

    @property
    def folder(self) -> str:
        """Its name in paths."""
        return f"text-{self.text_guidance_scale}-adapter-{self.ip_adapter_scale}"

    def applied(self, sampling: SamplingConfig) -> SamplingConfig:
        """The recipe's sampling with these two. Raises RecipeError if one is out of its bounds."""
        return replace(sampling, text_guidance_scale=self.text_guidance_scale, ip_adapter_scale=self.ip_adapter_scale)


@config_dataclass
class FrontierConfig:
    """`[frontier]` of a recipe. The methods and images of a prompt set, once for each setting."""

    prompt_set: str = "attributes"  # one of [prompt_sets]: the neutral portrait asks for nothing
    text_guidance_scales: SomeItems[float] = (0.0, 3.0, 6.0)
    ip_adapter_scales: SomeItems[float] = (0.6, 0.8, 1.0)
    prompt_metric: Annotated[str, one_of(PROMPT_METRICS)] = "attribute-accuracy"  # says how well the prompt is obeyed
    reference_point: tuple[Coordinate, Coordinate] = (0.0, 0.0)  # prompt and person; the area is taken above both

    def __post_init__(self) -> None:
        for key in ("text_guidance_scales", "ip_adapter_scales"):
            scales = getattr(self, key)
            require(list(scales) == sorted(set(scales)), key, scales, "numbers, each above the last")

    @property
    def settings(self) -> tuple[FrontierSetting, ...]:
        """All of them, by adapter scale, then by text guidance."""
        pairs = product(self.ip_adapter_scales, self.text_guidance_scales)
        return tuple(FrontierSetting(text, adapter) for adapter, text in pairs)
