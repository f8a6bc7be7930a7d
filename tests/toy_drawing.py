"""A few steps of a toy model, for nobody who exists."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tenth.core.types import Identity
from tenth.sampling.config import Sampling
from tenth.sampling.generate import Request, generate
from tenth.sampling.sampler import asked, drawing

FEW = Sampling(steps=3)
PROMPT = "a photo of a man"


def somebody(model: Any, seed: int = 0, rows: int = 1) -> Identity:
    embeddings = 3 * torch.randn(rows, model.encoder.width, generator=torch.Generator().manual_seed(seed))
    return Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, embeddings)


def draw(model: Any, sampling: Sampling, *people: Identity | None) -> list[np.ndarray]:
    requests = [Request(person, PROMPT, 5) for person in people or (somebody(model),)]
    return [sample.pixels.astype(int) for sample in generate(model, requests, sampling)]


def floats(model: Any, sampling: Sampling, identity: Identity) -> np.ndarray:
    """An image in [0, 1] before it is rounded."""
    with model.applied([identity]) as embeddings, drawing(model, sampling, embeddings) as images:
        texts = model.texts([PROMPT], sampling.negative, guided=sampling.guidance > 1)
        return np.asarray(model.pipeline(**asked([PROMPT], [5], sampling, texts=texts), **images).images[0])
