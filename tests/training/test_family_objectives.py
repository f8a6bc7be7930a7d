"""A step of training Qwen-Image-Edit and Z-Image, against the objectives as diffusers' training scripts document them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import QwenImageEditPlusPipeline
from torch import Tensor

from tenth.core.rng import StepRNG
from tenth.training.flow_matching.frozen_transformer import frozen_transformer
from tenth.training.flow_matching.time_sampling import TimeSampling
from toy_families import load_toy, toy_family

BATCH, SIDES = 3, (8, 12)
PROMPTS = ["a photo of a zwx person", "a person", "a photo"]


def qwen_velocity(transformer: Any, noisy: Tensor, sigmas: Tensor, hidden: list[Tensor]) -> Tensor:
    """Packed by diffusers' pipeline, prompt by prompt."""
    _, channels, height, width = noisy.shape
    rows = []
    for latents, sigma, text in zip(noisy, sigmas, hidden, strict=True):
        packed = QwenImageEditPlusPipeline._pack_latents(latents[None], 1, channels, height, width)
        predicted = transformer(
            hidden_states=packed,
            timestep=sigma[None],
            encoder_hidden_states=text[None],
            img_shapes=[[(1, height // 2, width // 2)]],
            return_dict=False,
        )[0]
        rows.append(QwenImageEditPlusPipeline._unpack_latents(predicted, height * 8, width * 8, 8)[:, :, 0])
    return torch.cat(rows)


def z_image_velocity(transformer: Any, noisy: Tensor, sigmas: Tensor, hidden: list[Tensor]) -> Tensor:
    """The script's signs: the transformer's time begins with noise, and it predicts the direction away from it."""
    predicted = transformer(list(noisy.unsqueeze(2)), (1000 - 1000 * sigmas) / 1000, hidden, return_dict=False)[0]
    return -torch.stack(list(predicted)).squeeze(2)


Velocity = Callable[[Any, Tensor, Tensor, list[Tensor]], Tensor]
QWEN_SHIFT = math.exp(0.5 + (0.9 - 0.5) * (SIDES[0] * SIDES[1] / 4 - 256) / (8192 - 256))  # of its scheduler, by the tokens


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "velocity", "shift"), [("qwen-image-edit", qwen_velocity, QWEN_SHIFT), ("z-image", z_image_velocity, 6.0)]
)
def test_loss_and_gradients_are_those_of_the_documented_objective(
    name: str, velocity: Velocity, shift: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = load_toy(toy_family(name, tmp_path_factory.mktemp(name)))
    latents = torch.randn(BATCH, model.latent_shape(64, 64)[0], *SIDES, generator=torch.Generator().manual_seed(5))
    with frozen_transformer(model, TimeSampling(logit_mean=0.4, logit_std=1.3)) as frozen:
        transformer = frozen.transformer.requires_grad_(True)
        with torch.no_grad():  # as made: larger weights would make the rounding of padded prompts larger
            for parameter in transformer.parameters():
                parameter.div_(3 if parameter.ndim == 2 else 1)
        prompts = frozen.encode_prompts(PROMPTS)
        assert prompts.mask is not None  # they have different lengths
        hidden = [row[mask] for row, mask in zip(prompts.hidden, prompts.mask, strict=True)]

        # The objective, with the noise and the times that a step of this seed draws.
        rng = StepRNG(7, 0, BATCH)
        noise, normal = rng.normal(*latents.shape[1:]), rng.normal()
        times = torch.sigmoid(0.4 + 1.3 * normal)
        sigmas = shift * times / (1 + (shift - 1) * times)
        share = sigmas[:, None, None, None]
        predicted = velocity(transformer, (1 - share) * latents + share * noise, sigmas, hidden)
        theirs = ((predicted - (noise - latents)) ** 2).flatten(1).mean(1)
        expected = gradients(theirs, transformer)

        ours = frozen.per_sample_loss(latents, prompts, None, StepRNG(7, 0, BATCH))
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert float(ours.detach().std()) > 0.01
        found = gradients(ours, transformer)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        scale = float(value.abs().max()) + 1e-6
        assert float((found[key] - value).abs().max()) <= 1e-5 * max(scale, 1.0), key
    assert sum(float(value.abs().max()) > 1e-3 for value in expected.values()) > len(expected) / 2


def gradients(losses: Tensor, network: Any) -> dict[str, Tensor]:
    network.zero_grad()
    losses.mean().backward()
    return {name: weight.grad.clone() for name, weight in network.named_parameters() if weight.grad is not None}
