"""Sampling with guidance inside of a training step: the pocket model learns from what its defaults show.

Guidance on the prompt is five times what the UNet was trained to predict, so what is right of each prediction need not be right
of their sum: contrast grows from step to step, and daylight burns. Here the sum itself is taught.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler
from torch import Tensor

from tenth.models.denoiser import CONDITIONAL, TEXT_ONLY, UNCONDITIONAL, Conditioning, concat, predict_x0
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.models.trained_resolutions import DEFAULT_SAMPLING, TrainedResolutions
from tenth.sampling.guidance import Guidance

DEFAULTS = DEFAULT_SAMPLING[TrainedResolutions.SINGLE_SQUARE]
STEPS = DEFAULTS.steps
Velocity = Callable[[Tensor, Tensor, Conditioning], Tensor]  # noisy latents, timesteps (B,), conditions -> (B, C, h, w)


@dataclass(frozen=True)
class GuidedSampling:
    """The model's default sampling. velocity: what the UNet predicts. config: of the scheduler whose noise it is."""

    velocity: Velocity
    config: Any

    def __call__(
        self, noise: Tensor, conditioning: Conditioning, no_prompt: PromptEmbeddings, steps_before: int
    ) -> tuple[Tensor, Tensor]:
        """The denoised latents (B, C, h, w) that one step predicts, and its timesteps (B,). Only this step has gradients.

        noise: (B, C, h, w). no_prompt: of B empty prompts. steps_before: how many of STEPS are done before, without gradients.
        """
        scheduler = UniPCMultistepScheduler.from_config(self.config)
        scheduler.set_timesteps(STEPS)
        terms = _terms(conditioning, no_prompt)
        latents = noise - noise.mean((2, 3), keepdim=True) if DEFAULTS.centred else noise
        with torch.no_grad():
            for timestep in scheduler.timesteps[:steps_before]:
                latents = scheduler.step(self._guided(latents, timestep, terms), timestep, latents, return_dict=False)[0]
        timestep = scheduler.timesteps[steps_before]
        timesteps = timestep.expand(len(latents))
        alphas = scheduler.alphas_cumprod[timesteps]
        return predict_x0(latents, self._guided(latents, timestep, terms), alphas, "v_prediction"), timesteps

    def _guided(self, latents: Tensor, timestep: Tensor, terms: dict[str, Conditioning]) -> Tensor:
        """The guided velocity of one step."""
        guidance = Guidance(
            DEFAULTS.guidance_scale,
            DEFAULTS.text_guidance_scale,
            rescale=DEFAULTS.guidance_rescale,
            centred=DEFAULTS.centred,
        )
        joined = torch.cat([latents] * len(terms))
        predicted = self.velocity(joined, timestep.expand(len(joined)), concat(list(terms.values())))
        return guidance.combine(dict(zip(terms, predicted.chunk(len(terms)), strict=True)))


def _terms(conditioning: Conditioning, no_prompt: PromptEmbeddings) -> dict[str, Conditioning]:
    """What guidance needs, as `unet_conditionings` has it: without a person the embedding is zero."""
    assert conditioning.image_embeddings is not None
    nobody = replace(conditioning, image_embeddings=torch.zeros_like(conditioning.image_embeddings))
    return {UNCONDITIONAL: replace(nobody, prompts=no_prompt), CONDITIONAL: conditioning, TEXT_ONLY: nobody}
