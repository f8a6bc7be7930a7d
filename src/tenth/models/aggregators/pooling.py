"""(K, D) embeddings of one person's photos -> (M, D): nothing learnt. None but `first` depends on the order of the photos.

Of patch tokens, (K, T, D) -> (M, T, D): each place of the picture by itself, with weights of whole photos.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tenth.core.errors import DataError

TEMPERATURE = 6.0  # of the consensus weights, on cosines


def first(embeddings: Tensor) -> Tensor:
    """The first photo alone: (K, D) -> (1, D)."""
    return read(embeddings)[:1]


def maximum(embeddings: Tensor) -> Tensor:
    """Element-wise maximum. (K, D) -> (1, D). Its norm grows with K, off the encoder's manifold."""
    return read(embeddings).amax(0, keepdim=True)


def mean(embeddings: Tensor) -> Tensor:
    """Element-wise mean. (K, D) -> (1, D). Its norm shrinks as photos disagree."""
    return exact(read(embeddings), read(embeddings).double().mean(0, keepdim=True))


def concatenation(embeddings: Tensor) -> Tensor:
    """All photos, side by side: their tokens share one attention. (K, D) -> (K, D), in an order of the values' own."""
    rows = read(embeddings)
    return rows[sorted(range(len(rows)), key=lambda row: rows[row].tolist())]


def consensus(embeddings: Tensor) -> Tensor:
    """Mean weighted by each photo's agreement with the others, with the photos' norm restored: (K, D) -> (1, D).

    Of patch tokens, a norm is restored for each place.
    """
    rows = read(embeddings)
    if len(rows) == 1:
        return rows
    weighted = (agreement(rows) @ rows.double().flatten(1)).view(rows.shape[1:])  # (D,) or (T, D)
    norm = rows.double().norm(dim=-1).mean(0)  # () or (T,)
    length = weighted.norm(dim=-1)
    return exact(rows, (weighted * torch.where(length > 0, norm / length, 1.0)[..., None])[None])


def share_first(embeddings: Tensor) -> Tensor:
    """How much each photo counts for `first`: (K, D) -> (K,)."""
    return torch.eye(len(read(embeddings)), dtype=torch.float64)[0]


def share_alike(embeddings: Tensor) -> Tensor:
    """How much each photo counts for `mean`: (K, D) -> (K,)."""
    count = len(read(embeddings))
    return torch.full((count,), 1 / count, dtype=torch.float64)


def agreement(embeddings: Tensor) -> Tensor:
    """Weights (K,) that sum to one: softmax, at temperature 6, of each photo's cosine to the mean of the others.

    Embeddings are expected centred: of encoders that are not, all cosines are alike and the weights nearly equal. Of patch
    tokens (K, T, D) the mean token of each photo is compared: a photo is trusted or not as a whole, and one place of two photos
    shows different things where the framing differs. The pooled embedding is nothing that an adapter of patches reads.
    """
    rows = read(embeddings).double()
    photos = rows.mean(1) if rows.ndim == 3 else rows  # (K, D)
    return torch.softmax(TEMPERATURE * agreement_cosines(photos), dim=0)


def agreement_cosines(embeddings: Tensor, present: Tensor | None = None) -> Tensor:
    """Each photo's cosine to the mean of the others: (..., K, D) -> (..., K). present: (..., K), which rows are photos."""
    counted = torch.ones_like(embeddings[..., 0]) if present is None else present.to(embeddings)
    rows = embeddings * counted[..., None]
    others = rows.sum(-2, keepdim=True) - rows
    others = others / (counted.sum(-1)[..., None, None] - 1).clamp(min=1)  # (..., K, D)
    return torch.nn.functional.cosine_similarity(rows, others, dim=-1)  # over features, not over photos


def checked(embeddings: Tensor) -> Tensor:
    """The same, if it is (K, D) with K at least 1 and finite; raises DataError otherwise."""
    if embeddings.ndim != 2 or len(embeddings) == 0 or not torch.isfinite(embeddings).all():
        raise DataError(
            f"embeddings of shape {tuple(embeddings.shape)}, finite: {bool(torch.isfinite(embeddings).all())}",
            "(K, D) with at least one photo and finite values is needed",
            "Give one row a photo",
        )
    return embeddings


def read(embeddings: Tensor) -> Tensor:
    """The same, if it is (K, D) or (K, T, D) and of finite values; raises DataError as `checked` does otherwise."""
    if embeddings.ndim == 3:
        checked(embeddings.flatten(1))
        return embeddings
    return checked(embeddings)


def exact(rows: Tensor, pooled: Tensor) -> Tensor:
    """`pooled` (M, D) or (M, T, D), rounded to the rows' type; where all rows are equal, that row itself to the last bit."""
    return rows[:1] if bool((rows == rows[0]).all()) else pooled.to(rows.dtype)
