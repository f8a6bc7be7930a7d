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
    """kind: the class in diffusers. label: as A1111 and its `parameters` text name it. settings: beside the model's own."""

    kind: str
    label: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    most_steps: int | None = None


# Those of diffusers that read a schedule which ends in pure noise (`rescale_betas_zero_snr`), as the pocket model's does.
# Source of the labels: diffusers' documentation, schedulers, overview, the table of A1111's names.
PLAIN = {"use_karras_sigmas": False}
SCHEDULERS: Mapping[str, Sampler] = {
    "ddim": Sampler("DDIMScheduler", "DDIM"),
    "euler": Sampler("EulerDiscreteScheduler", "Euler", PLAIN),
    "euler-a": Sampler("EulerAncestralDiscreteScheduler", "Euler a"),
    "dpm++-2m": Sampler("DPMSolverMultistepScheduler", "DPM++ 2M", PLAIN),
    "dpm++-2m-karras": Sampler("DPMSolverMultistepScheduler", "DPM++ 2M Karras", {"use_karras_sigmas": True}),
    "unipc": Sampler("UniPCMultistepScheduler", "UniPC", PLAIN),
    "lcm": Sampler("LCMScheduler", "LCM", most_steps=50),  # those that its distillation used
}


def check_scheduler(name: str, steps: int) -> None:
    """Raises RecipeError if there is no such sampler, or it cannot take so many steps. "" is the model's own."""
    if not name:
        return
    if name not in list(SCHEDULERS):
        action = f"{did_you_mean(str(name), list(SCHEDULERS))}Leave it out for the model's own"
        raise RecipeError(f"{name!r} is not a scheduler", f"choose one of: {', '.join(SCHEDULERS)}", action)
    most = SCHEDULERS[name].most_steps
    if most is not None and steps > most:
        raise RecipeError(
            f"{steps} steps of {name}", f"it takes at most {most}", "Lower the steps, or choose another scheduler"
        )


@contextmanager
def scheduled(pipeline: Any, name: str) -> Iterator[None]:
    """The pipeline with that sampler, over its own noise schedule, and its own one back when the block ends.

    Raises RecipeError for a sampler that cannot take the schedule: of diffusers 0.42.1 Karras' steps run out of it.
    """
    if not name:
        yield
        return
    import diffusers

    own, chosen = pipeline.scheduler, SCHEDULERS[name]
    if chosen.settings.get("use_karras_sigmas") and own.config.get("rescale_betas_zero_snr"):
        raise RecipeError(
            f"{name} for a model whose noise ends in nothing but noise", "Karras' steps need an end before", "Choose dpm++-2m"
        )
    pipeline.scheduler = getattr(diffusers, chosen.kind).from_config(own.config, **chosen.settings)
    try:
        yield
    finally:
        pipeline.scheduler = own


def label_of(scheduler: Any) -> str:
    """What A1111 calls a scheduler of diffusers; its class's name where that has no name there."""
    kind = type(scheduler).__name__
    karras = bool(scheduler.config.get("use_karras_sigmas", False))
    labels = {(each.kind, bool(each.settings.get("use_karras_sigmas", False))): each.label for each in SCHEDULERS.values()}
    return labels.get((kind, karras), kind.removesuffix("Scheduler"))
