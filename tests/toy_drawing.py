"""A few steps of a toy model, for nobody who exists."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tenth.core.types import Identity
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.sampler import SamplingBatch, sample_float

FEW_STEPS = SamplingConfig(steps=3, guidance_scale=2.0, guidance_rescale=0.5)
PROMPT = "a photo of a man"


def random_identity(model: Any, seed: int = 0, num_rows: int = 1) -> Identity:
    embeddings = 3 * torch.randn(num_rows, model.encoder.embedding_dim, generator=torch.Generator().manual_seed(seed))
    return Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, embeddings)


def generate_images(model: Any, sampling: SamplingConfig, *people: Identity | None) -> list[np.ndarray]:
    requests = [Request(person, PROMPT, 5) for person in people or (random_identity(model),)]
    return [sample.pixels.astype(int) for sample in generate(model, requests, sampling)]


def generate_float_image(model: Any, sampling: SamplingConfig, identity: Identity) -> np.ndarray:
    """An image in [0, 1] before it is rounded."""
    with model.applied([identity]) as embeddings:
        return sample_float(SamplingBatch(model, sampling, [PROMPT], [5], embeddings))[0]


def centred_noise(model: Any, seed: int) -> torch.Tensor:
    """The noise (1, C, h, w) of a seed of the pocket model, as `latents` of diffusers' pipelines."""
    shape = (1, *model.latent_shape(model.native_resolution, model.native_resolution))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return noise - noise.mean((2, 3), keepdim=True)


def diffusers_arguments(prompts: Sequence[str], seeds: Sequence[int], sampling: SamplingConfig) -> dict[str, Any]:
    """What diffusers' own pipeline is called with for the same images, but for a person's embeddings."""
    return {
        "prompt": list(prompts),
        "negative_prompt": [sampling.negative_prompt] * len(prompts),
        "num_inference_steps": sampling.steps,
        "guidance_scale": sampling.guidance_scale,
        "guidance_rescale": sampling.guidance_rescale,
        "generator": [torch.Generator().manual_seed(seed) for seed in seeds],
        "output_type": "np",
    }


def diffusers_image(model: Any, sampling: SamplingConfig, identity: Identity, **more: Any) -> np.ndarray:
    """The same image as `generate_float_image`, by diffusers' own pipeline. more: arguments of its call."""
    model.pipeline.set_progress_bar_config(disable=True)
    with model.applied([identity]) as embeddings:
        model.pipeline.set_ip_adapter_scale(sampling.ip_adapter_scale)
        guided = torch.cat([torch.zeros_like(embeddings), embeddings])
        arguments = diffusers_arguments([PROMPT], [5], sampling) | more
        return np.asarray(model.pipeline(**arguments, ip_adapter_image_embeds=[guided]).images[0])
