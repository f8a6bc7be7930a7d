"""At which sizes a model was trained, and what follows for its defaults and previews."""

from __future__ import annotations

from enum import Enum

import torch
from torch import Tensor

from tenth.core.types import DefaultSampling


class TrainedResolutions(Enum):
    """At which sizes a model was trained, and generates well in one pass."""

    SINGLE_SQUARE = "one square"  # of aligned faces, and no detail beyond it
    NEAR_SQUARE = "squares"  # of any content: other shapes of about as many pixels work
    MULTI_ASPECT = "buckets"  # SDXL's list of aspect ratios
    ANY_ASPECT = "any"  # any shape of about as many pixels, in steps of the transformer's patches


# The pocket model's was chosen on validation people (docs/log.md); the others' guidance is that of diffusers' pipelines.
DEFAULT_SAMPLING = {
    TrainedResolutions.SINGLE_SQUARE: DefaultSampling(
        4,
        1.0,  # its training sampled without guidance: training/pocket/finetuning
        hires_strength=0.0,  # benchmarks/highres.py
        centred=True,
    ),
    TrainedResolutions.NEAR_SQUARE: DefaultSampling(25, 7.5),
    TrainedResolutions.MULTI_ASPECT: DefaultSampling(25, 5.0),
}

# A linear map of latents to colours: red, green and blue of each of four channels, and what is added.
# Source of the numbers: ComfyUI, latent_formats.py.
RGB_FACTORS = {
    TrainedResolutions.NEAR_SQUARE: (
        ((0.3512, 0.2297, 0.3227), (0.3250, 0.4974, 0.2350), (-0.2829, 0.1762, 0.2721), (-0.2120, -0.2616, -0.7177)),
        (0.0, 0.0, 0.0),
    ),
    TrainedResolutions.MULTI_ASPECT: (
        ((0.3651, 0.4232, 0.4341), (-0.2533, -0.0042, 0.1068), (0.1076, 0.1111, -0.0362), (-0.3165, -0.2492, -0.2188)),
        (0.1084, -0.0175, -0.0011),
    ),
}


def preview_colors(resolutions: TrainedResolutions, latents: Tensor) -> Tensor | None:
    """Latents (B, C, h, w) -> colours (B, 3, h, w), about [-1, 1], by their linear map; None where there is none for them."""
    factors = RGB_FACTORS.get(resolutions)
    if factors is None or latents.shape[1] != len(factors[0]):
        return None
    weights, bias = (latents.new_tensor(values) for values in factors)
    return torch.einsum("bchw,cr->brhw", latents, weights) + bias[:, None, None]
