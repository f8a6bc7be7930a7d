"""How far an identity moves without each of its photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

UNIT = "cosine distance, 0 none to 2"
PoolSome = Callable[[Tensor, Sequence[int]], Tensor]  # embeddings of all photos, and which of them -> pooled ones of these


def leave_one_out_distances(embeddings: Tensor, pool: PoolSome) -> Tensor:
    """The cosine distance between the identity with and without each of several photos: (K,), float64.

    NaN without the only photo that counts.
    embeddings: (K, D) or (K, T, D), K > 1. pool: gives (M, D) or (M, T, D). Of several rows the means are compared: a model
    reads them in no order.
    """
    count = len(embeddings)
    whole = _mean_row(pool(embeddings, list(range(count))))
    others = [[photo for photo in range(count) if photo != left_out] for left_out in range(count)]
    without = torch.stack([_mean_row(pool(embeddings, photos)) for photos in others])  # (K, D)
    return (1 - torch.nn.functional.cosine_similarity(without, whole[None], dim=-1)).clamp(min=0)


def _mean_row(pooled: Tensor) -> Tensor:
    """(M, D) or (M, T, D) -> (D,) or (T * D,), float64."""
    return pooled.double().mean(0).flatten()
