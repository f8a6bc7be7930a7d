"""Classifier-free guidance: which predictions a step needs, and the sum that they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from tenth.models.denoiser import CONDITIONAL, TEXT_ONLY, UNCONDITIONAL
from tenth.sampling.bounds import FULL_INTERVAL


@dataclass(frozen=True)
class Guidance:
    """Guidance on prompt and person together, and further guidance on the prompt alone.

    scale: of the first; 1 turns it off. text_scale: of the second; 0 turns it off. has_person: whether an
    adapter has a person beside the prompt; without one both are guidance on the prompt.
    interval: guidance is on where start <= 1 - t / num_train_timesteps <= end, so that 0 is pure noise and 1 the finished
    image, whatever the scheduler and the number of steps. rescale: share of the correction, (guided, conditional, share) ->
    guided; None for Lin et al.'s, of the contrast. centred: whether the second changes no channel's mean: "outdoors" turns
    faces grey otherwise, as it asks for daylight.
    Sources: Ho and Salimans 2022, arXiv:2207.12598; Kynkäänniemi et al. 2024, arXiv:2404.07724, whose interval is in noise
    levels; Liu et al. 2022, composable diffusion, arXiv:2206.01714: a conjunction, here of a prompt, and of it with a person.
    """

    scale: float
    text_scale: float = 0.0
    interval: tuple[float, float] = FULL_INTERVAL
    rescale: float = 0.0
    correction: Callable[[Tensor, Tensor, float], Tensor] | None = None
    centred: bool = False
    has_person: bool = True

    @property
    def enabled(self) -> bool:
        """Whether any step needs more than the conditional prediction."""
        return self.scale > 1 or self.text_scale > 0

    def terms(self, denoised: float) -> tuple[str, ...]:
        """The predictions that a step needs. denoised: 1 - t / num_train_timesteps."""
        if not self.enabled or not self.interval[0] <= denoised <= self.interval[1]:
            return (CONDITIONAL,)
        needs_text_only = self.text_scale and self.has_person  # without a person the conditional prediction is it
        return (UNCONDITIONAL, CONDITIONAL, TEXT_ONLY) if needs_text_only else (UNCONDITIONAL, CONDITIONAL)

    def combine(self, predicted: Mapping[str, Tensor]) -> Tensor:
        """The guided prediction (B, C, h, w) from those of `terms`, each (B, C, h, w)."""
        conditional = predicted[CONDITIONAL]
        if UNCONDITIONAL not in predicted:
            return conditional
        unconditional = predicted[UNCONDITIONAL]
        guided = unconditional + self.scale * (conditional - unconditional)
        if self.text_scale:
            towards_text = predicted.get(TEXT_ONLY, conditional) - unconditional
            if self.centred:
                towards_text = towards_text - towards_text.mean((2, 3), keepdim=True)
            guided = guided + self.text_scale * towards_text
        correction = self.correction or rescale_contrast
        return correction(guided, conditional, self.rescale) if self.rescale else guided


def rescale_contrast(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """The guided prediction with, by a share of 0 to 1, the standard deviation of the conditional one, image by image.

    Source: Lin et al. 2023, arXiv:2305.08891, equations 15 and 16.
    """
    std, conditional_std = (each.std((1, 2, 3), keepdim=True) for each in (guided, conditional))  # (B, 1, 1, 1)
    return share * (guided * (conditional_std / std)) + (1 - share) * guided
