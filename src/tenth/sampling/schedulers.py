"""Samplers by the name that users type, on the model's own noise schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenth.core.errors import RecipeError
from tenth.core.wording import did_you_mean


@dataclass(frozen=True)
class Sampler:
    """class_name: diffusers'. a1111_name: in A1111's `parameters`. settings: added to those of the model's own scheduler.

    flow_class: diffusers' for a model trained by flow matching, "" where there is none; flow_settings: of it.
    """

    class_name: str
    a1111_name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_steps: int | None = None
    flow_class: str = ""
    flow_settings: Mapping[str, Any] = field(default_factory=dict)


# Those of diffusers that support zero terminal SNR (`rescale_betas_zero_snr`), which the pocket model has.
# Source of A1111's names: the table in diffusers' documentation, schedulers, overview.
NO_KARRAS = {"use_karras_sigmas": False}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
SCHEDULERS: Mapping[str, Sampler] = {
    "ddim": Sampler("DDIMScheduler", "DDIM"),
    "euler": Sampler("EulerDiscreteScheduler", "Euler", NO_KARRAS, flow_class="FlowMatchEulerDiscreteScheduler"),
    "euler-a": Sampler("EulerAncestralDiscreteScheduler", "Euler a"),
    "dpm++-2m": Sampler(
        "DPMSolverMultistepScheduler", "DPM++ 2M", NO_KARRAS, flow_class="DPMSolverMultistepScheduler", flow_settings=FLOW
    ),
    "dpm++-2m-karras": Sampler("DPMSolverMultistepScheduler", "DPM++ 2M Karras", {"use_karras_sigmas": True}),
    "unipc": Sampler("UniPCMultistepScheduler", "UniPC", NO_KARRAS, flow_class="UniPCMultistepScheduler", flow_settings=FLOW),
    "lcm": Sampler("LCMScheduler", "LCM", max_steps=50, flow_class="FlowMatchLCMScheduler"),  # the steps of its distillation
    "tcd": Sampler("TCDScheduler", "TCD", max_steps=50),  # the same
}


def fast_settings(scheduler: str) -> dict[str, Any]:
    """How a model or LoRA that was distilled to few steps for this scheduler is sampled: guidance is in its weights.

    Sources: Luo et al. 2023, arXiv:2311.05556, 4 to 8 steps; Zheng et al. 2024, arXiv:2402.19159, and Hyper-SD's model card.
    """
    return {"scheduler": scheduler, "steps": 6, "guidance_scale": 1.0, "guidance_rescale": 0.0, "text_guidance_scale": 0.0}


def check_scheduler(name: str, steps: int) -> None:
    """Raises RecipeError if there is no such sampler, or it cannot take so many steps. "" is the model's own."""
    if not name:
        return
    if name not in list(SCHEDULERS):
        action = f"{did_you_mean(str(name), list(SCHEDULERS))}Leave it out for the model's own"
        raise RecipeError(f"{name!r} is not a scheduler", f"choose one of: {', '.join(SCHEDULERS)}", action)
    max_steps = SCHEDULERS[name].max_steps
    if max_steps is not None and steps > max_steps:
        action = "Lower the steps, or choose another scheduler"
        raise RecipeError(f"{steps} steps of {name}", f"it takes at most {max_steps}", action)


def is_flow_matching(scheduler: Any) -> bool:
    """Whether it goes along the straight lines between noise and images, whose direction the network predicts."""
    return not hasattr(scheduler, "alphas_cumprod") or bool(scheduler.config.get("use_flow_sigmas", False))


def check_flow_scheduler(name: str) -> None:
    """Raises RecipeError for a sampler that a model trained by flow matching cannot take. "" is the model's own."""
    known = [each for each, sampler in SCHEDULERS.items() if sampler.flow_class]
    if name and name not in known:
        found = f"the scheduler {name} for a model trained by flow matching"
        raise RecipeError(found, f"it takes one of: {', '.join(known)}", "Leave it out for the model's own")


def build_scheduler(own: Any, name: str = "") -> Any:
    """A new scheduler on the noise schedule of a model's own; without a name, of its kind.

    Raises RecipeError for a sampler that does not support the schedule: Karras' steps of diffusers 0.42.1 leave it.
    """
    if not name:
        return type(own).from_config(own.config)
    import diffusers

    chosen = SCHEDULERS[name]
    if is_flow_matching(own):
        check_flow_scheduler(name)
        shift = {"flow_shift": own.config.get("shift", 1.0)} if chosen.flow_settings else {}
        return getattr(diffusers, chosen.flow_class).from_config(own.config, **chosen.flow_settings, **shift)
    if chosen.settings.get("use_karras_sigmas") and own.config.get("rescale_betas_zero_snr"):
        found = f"{name} for a model whose noise ends in nothing but noise"
        raise RecipeError(found, "Karras' steps need an end before", "Choose dpm++-2m")
    return getattr(diffusers, chosen.class_name).from_config(own.config, **chosen.settings)


def a1111_name(scheduler: Any) -> str:
    """A1111's name of a scheduler of diffusers; its class name where A1111 has none."""
    class_name, karras = type(scheduler).__name__, bool(scheduler.config.get("use_karras_sigmas", False))
    for sampler in SCHEDULERS.values():
        if sampler.flow_class == class_name and is_flow_matching(scheduler):
            return sampler.a1111_name
        if sampler.class_name == class_name and bool(sampler.settings.get("use_karras_sigmas", False)) == karras:
            return sampler.a1111_name
    return class_name.removesuffix("Scheduler")
