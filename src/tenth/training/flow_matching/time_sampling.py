"""The times at which a transformer is trained by flow matching: a logit-normal distribution, shifted as in sampling."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from tenth.core.config import MAX_NUMBER, NonNegative, Positive, config_dataclass
from tenth.models.families.family import LatentShape, TransformerFamily

Logit = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
SHIFT_STEPS = 200  # of a schedule from which the shift is read; one of so many hardly depends on their number


@config_dataclass
class TimeSampling:
    """A time is the sigmoid of a normal number of this mean and deviation, t, shifted to shift t / (1 + (shift - 1) t).

    Source: Esser et al. 2024, arXiv:2403.03206, equations 19 and 23.
    """

    logit_mean: Logit = 0.0
    logit_std: Positive = 1.0
    shift: NonNegative = 0.0  # above 1: towards noise; 0: that of the model's schedule for images of this size

    def sigmas(self, normal: Tensor, schedule_shift: float = 1.0) -> Tensor:
        """Shares of noise in (0, 1), float64, of normal numbers of the same shape. schedule_shift: where the setting is 0."""
        times = torch.sigmoid(self.logit_mean + self.logit_std * normal.double())
        shift = self.shift or schedule_shift
        return shift * times / (1 + (shift - 1) * times)


def schedule_shift(family: TransformerFamily, scheduler: Any, latent_shape: LatentShape) -> float:
    """The shift with which a family samples latents of this shape: its scheduler's one number, or by the size."""
    if not scheduler.config.get("use_dynamic_shifting"):
        return float(scheduler.config.get("shift", 1.0))
    # The schedule of a copy, not stretched at its end: half of its way is shifted to shift / (1 + shift).
    copy = type(scheduler).from_config(scheduler.config, shift_terminal=None)
    family.set_timesteps(copy, SHIFT_STEPS, latent_shape, torch.device("cpu"))
    half = float(copy.sigmas[SHIFT_STEPS // 2].double())
    return half / (1 - half)
