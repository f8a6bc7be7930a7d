"""A few steps of a toy model, for nobody who exists."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tenth.core.types import Identity
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.sampler import pipeline_kwargs, sampling_context

FEW_STEPS = SamplingConfig(steps=3)
PROMPT = "a photo of a man"


def random_identity(model: Any, seed: int = 0, num_rows: int = 1) -> Identity:
    embeddings = 3 * torch.randn(num_rows, model.encoder.embedding_dim, generator=torch.Generator().manual_seed(seed))
    return Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, embeddings)


def generate_images(model: Any, sampling: SamplingConfig, *people: Identity | None) -> list[np.ndarray]:
    requests = [Request(person, PROMPT, 5) for person in people or (random_identity(model),)]
    return [sample.pixels.astype(int) for sample in generate(model, requests, sampling)]


def generate_float_image(model: Any, sampling: SamplingConfig, identity: Identity) -> np.ndarray:
    """An image in [0, 1] before it is rounded."""
    with model.applied([identity]) as embeddings, sampling_context(model, sampling, embeddings) as images:
        texts = model.prompt_encoder([PROMPT], sampling.negative_prompt, guided=sampling.guidance_scale > 1)
        return np.asarray(model.pipeline(**pipeline_kwargs([PROMPT], [5], sampling, text_embeddings=texts), **images).images[0])
