"""(K, D) embeddings of one person's photos -> (M, D): nothing learnt. None but `first` depends on the order of the photos."""

from __future__ import annotations

import torch
from torch import Tensor

from tenth.errors import DataError

TEMPERATURE = 6.0  # of the consensus weights, on cosines


def first(embeddings: Tensor) -> Tensor:
    """The first photo alone: (K, D) -> (1, D)."""
    return checked(embeddings)[:1]


def maximum(embeddings: Tensor) -> Tensor:
    """Element-wise maximum. (K, D) -> (1, D). Its norm grows with K, off the encoder's manifold."""
    return checked(embeddings).amax(0, keepdim=True)


def mean(embeddings: Tensor) -> Tensor:
    """Element-wise mean. (K, D) -> (1, D). Its norm shrinks as photos disagree."""
    return exact(checked(embeddings), checked(embeddings).double().mean(0, keepdim=True))


def concatenation(embeddings: Tensor) -> Tensor:
    """All photos, side by side: their tokens share one attention. (K, D) -> (K, D), in an order of the values' own."""
    rows = checked(embeddings)
    return rows[sorted(range(len(rows)), key=lambda row: rows[row].tolist())]


def consensus(embeddings: Tensor) -> Tensor:
    """Mean weighted by each photo's agreement with the others, with the photos' norm restored: (K, D) -> (1, D)."""
    rows = checked(embeddings)
    if len(rows) == 1:
        return rows
    weighted = agreement(rows) @ rows.double()  # (D,)
    norm = rows.double().norm(dim=1).mean()
    length = weighted.norm()
    return exact(rows, (weighted * (norm / length if length > 0 else 1.0))[None])


def share_first(embeddings: Tensor) -> Tensor:
    """How much each photo counts for `first`: (K, D) -> (K,)."""
    return torch.eye(len(checked(embeddings)), dtype=torch.float64)[0]


def share_alike(embeddings: Tensor) -> Tensor:
    """How much each photo counts for `mean`: (K, D) -> (K,)."""
    count = len(checked(embeddings))
    return torch.full((count,), 1 / count, dtype=torch.float64)


def agreement(embeddings: Tensor) -> Tensor:
    """Weights (K,) that sum to one: softmax, at temperature 6, of each photo's cosine to the mean of the others.

    Embeddings are expected centred: of encoders that are not, all cosines are alike and the weights nearly equal.
    """
    return torch.softmax(TEMPERATURE * agreement_cosines(checked(embeddings).double()), dim=0)


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


def exact(rows: Tensor, pooled: Tensor) -> Tensor:
    """`pooled` (M, D), rounded to the rows' type; where all rows are equal, that row itself to the last bit."""
    return rows[:1] if bool((rows == rows[0]).all()) else pooled.to(rows.dtype)
