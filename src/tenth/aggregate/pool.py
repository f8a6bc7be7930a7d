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
    return _exact(checked(embeddings), checked(embeddings).double().mean(0, keepdim=True))


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
    return _exact(rows, (weighted * (norm / length if length > 0 else 1.0))[None])


def agreement(embeddings: Tensor) -> Tensor:
    """Weights (K,) that sum to one: softmax, at temperature 6, of each photo's cosine to the mean of the others.

    Embeddings are expected centred: of encoders that are not, all cosines are alike and the weights nearly equal.
    """
    rows = checked(embeddings).double()
    others = (rows.sum(0) - rows) / max(len(rows) - 1, 1)  # (K, D)
    cosines = torch.nn.functional.cosine_similarity(rows, others, dim=1)  # over features, not over photos
    return torch.softmax(TEMPERATURE * cosines, dim=0)


def checked(embeddings: Tensor) -> Tensor:
    """The same, if it is (K, D) with K at least 1 and finite; raises DataError otherwise."""
    if embeddings.ndim != 2 or len(embeddings) == 0 or not torch.isfinite(embeddings).all():
        raise DataError(
            f"embeddings of shape {tuple(embeddings.shape)}, finite: {bool(torch.isfinite(embeddings).all())}",
            "(K, D) with at least one photo and finite values is needed",
            "Give one row a photo",
        )
    return embeddings


def _exact(rows: Tensor, pooled: Tensor) -> Tensor:
    """pooled, rounded to the rows' type; where all rows are equal, that row itself to the last bit."""
    return rows[:1] if bool((rows == rows[0]).all()) else pooled.to(rows.dtype)
