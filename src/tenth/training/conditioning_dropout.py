"""Conditions that are dropped in training, for classifier-free guidance. Source: IP-Adapter's published training."""

from __future__ import annotations

from torch import Tensor

from tenth.core.config import Fraction, config_dataclass, require


@config_dataclass
class ConditioningDropout:
    """The probabilities with which an image of a batch loses conditions."""

    p_unconditional: Fraction = 0.05  # text and image
    p_no_image: Fraction = 0.05  # only the image: the adapter then sees one zero embedding, which no aggregator touches
    p_no_text: Fraction = 0.05  # only the text

    def __post_init__(self) -> None:
        total = self.p_unconditional + self.p_no_image + self.p_no_text
        require(total <= 1, "p_unconditional + p_no_image + p_no_text", total, "at most 1 together")

    def masks(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Which images lose their image and which their text condition: (B,) bool each. uniform: (B,) in [0, 1)."""
        unconditional, no_image = uniform < self.p_unconditional, uniform < self.p_unconditional + self.p_no_image
        return no_image, unconditional | ~no_image & (uniform < self.p_unconditional + self.p_no_image + self.p_no_text)
