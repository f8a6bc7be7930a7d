"""A sampler by the name that users type, made of the model's own noise schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tenth.core.errors import RecipeError
from tenth.core.wording import did_you_mean


@dataclass(frozen=True)
class Sampler:
    """class_name: the class in diffusers. a1111_name: as A1111's `parameters` name it. settings: beside the model's own."""

    class_name: str
    a1111_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_steps: int | None = None


# Those of diffusers that read a schedule which ends in pure noise (`rescale_betas_zero_snr`), as the pocket model's does.
# Source of the labels: diffusers' documentation, schedulers, overview, the table of A1111's names.
NO_KARRAS = {"use_karras_sigmas": False}
SCHEDULERS: Mapping[str, Sampler] = {
    "ddim": Sampler("DDIMScheduler", "DDIM"),
    "euler": Sampler("EulerDiscreteScheduler", "Euler", NO_KARRAS),
    "euler-a": Sampler("EulerAncestralDiscreteScheduler", "Euler a"),
    "dpm++-2m": Sampler("DPMSolverMultistepScheduler", "DPM++ 2M", NO_KARRAS),
    "dpm++-2m-karras": Sampler("DPMSolverMultistepScheduler", "DPM++ 2M Karras", {"use_karras_sigmas": True}),
    "unipc": Sampler("UniPCMultistepScheduler", "UniPC", NO_KARRAS),
    "lcm": Sampler("LCMScheduler", "LCM", max_steps=50),  # those that its distillation used
}


def check_scheduler(name: str, steps: int) -> None:
    """Raises RecipeError if there is no such sampler, or it cannot take so many steps. "" is the model's own."""
    if not name:
        return
    if name not in list(SCHEDULERS):
        action = f"{did_you_mean(str(name), list(SCHEDULERS))}Leave it out for the model's own"
        raise RecipeError(f"{name!r} is not a scheduler", f"choose one of: {', '.join(SCHEDULERS)}", action)
    max_steps = SCHEDULERS[name].max_steps
    if max_steps is not None and steps > max_steps:
        raise RecipeError(
            f"{steps} steps of {name}", f"it takes at most {max_steps}", "Lower the steps, or choose another scheduler"
        )


@contextmanager
def using_scheduler(pipeline: Any, name: str) -> Iterator[None]:
    """The pipeline with that sampler, over its own noise schedule, and its own one back when the block ends.

    Raises RecipeError for a sampler that cannot take the schedule: of diffusers 0.42.1 Karras' steps run out of it.
    """
    if not name:
        yield
        return
    import diffusers

    original, chosen = pipeline.scheduler, SCHEDULERS[name]
    if chosen.settings.get("use_karras_sigmas") and original.config.get("rescale_betas_zero_snr"):
        raise RecipeError(
            f"{name} for a model whose noise ends in nothing but noise", "Karras' steps need an end before", "Choose dpm++-2m"
        )
    pipeline.scheduler = getattr(diffusers, chosen.class_name).from_config(original.config, **chosen.settings)
    try:
        yield
    finally:
        pipeline.scheduler = original


def a1111_name(scheduler: Any) -> str:
    """What A1111 calls a scheduler of diffusers; its class's name where that has no name there."""
    class_name = type(scheduler).__name__
    karras = bool(scheduler.config.get("use_karras_sigmas", False))
    names = {
        (each.class_name, bool(each.settings.get("use_karras_sigmas", False))): each.a1111_name for each in SCHEDULERS.values()
    }
    return names.get((class_name, karras), class_name.removesuffix("Scheduler"))
