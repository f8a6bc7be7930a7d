"""What a training step of the pocket model reads, made up: six photos of three people."""

from __future__ import annotations

import torch

from tenth.draws import Draws
from tenth.pocket.pack import CONFIGS
from tenth.pocket.train_diffusion import Examples, means_of_others
from tenth.pocket.trainable import Trainable


def draws(batch: int, step: int = 0) -> Draws:
    return Draws(0, step, batch)


def examples(count: int = 6) -> Examples:
    parts = Trainable.create(CONFIGS)
    embeddings = torch.arange(count)[:, None].float().repeat(1, 128)
    others = torch.tensor([(0, 1), (1, 3), (1, 3), (1, 3), (4, 2), (4, 2)])
    return Examples(
        latents=draws(count).normal(2, 8, 16, 16),
        embeddings=embeddings,
        tokens=torch.stack([parts.tokens(["a man", "a woman"])] * count),
        others=others,
        several=means_of_others(embeddings, others),
    )
