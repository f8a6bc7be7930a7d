"""What tests of other sizes share: toy identities, draws of them, pictures of noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tenth.core.types import Identity, Sample
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import OnProgress, Request, generate
from tenth.sampling.passes.hires import HiresConfig

FEW_STEPS, PROMPT = SamplingConfig(steps=4), "a photo of a person"
HIRES = HiresConfig(32, 24, strength=0.5, face_detailer=False)


def random_identity(model: Any, seed: int = 0, **more: Any) -> Identity:
    width = model.encoder.embedding_dim
    embeddings = torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) * (30 if width == 24 else 1)
    return Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, embeddings, **more)


def generate_samples(
    model: Any, people: list[Identity | None], highres: HiresConfig = HIRES, *, batch: int = 4, seed: int = 5
) -> list[Sample]:
    requests = [Request(who, PROMPT, seed + number) for number, who in enumerate(people)]
    return list(generate(model, requests, FEW_STEPS, batch, hires=highres))


def max_difference(one: Sample, other: Sample) -> int:
    return int(np.abs(one.pixels.astype(int) - other.pixels).max())


def noise_image(seed: int, height: int, width: int) -> Any:
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def noting(told: list[tuple[int, int]]) -> OnProgress:
    """Notes what is told of the progress."""
    return lambda now: told.append((now.done, now.total))
