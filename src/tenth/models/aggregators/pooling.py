"""Pooling without training: (K, D) embeddings of one person's photos -> (M, D). Only `first` depends on the order of photos.

Of patch tokens, (K, T, D) -> (M, T, D): each position of the image by itself, with weights of whole photos.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tenth.core.errors import DataError

TEMPERATURE = 6.0  # inverse, of the softmax over cosines in the consensus weights


def first(embeddings: Tensor) -> Tensor:
    """The first photo alone: (K, D) -> (1, D)."""
    return validate_embeddings(embeddings)[:1]


def maximum(embeddings: Tensor) -> Tensor:
    """Element-wise maximum. (K, D) -> (1, D). Its norm grows with K, off the encoder's manifold."""
    return validate_embeddings(embeddings).amax(0, keepdim=True)


def mean(embeddings: Tensor) -> Tensor:
    """Element-wise mean. (K, D) -> (1, D). Its norm shrinks as photos disagree."""
    return keep_identical_rows_exact(embeddings, validate_embeddings(embeddings).double().mean(0, keepdim=True))


def concatenation(embeddings: Tensor) -> Tensor:
    """All photos: the UNet attends to the tokens of all. (K, D) -> (K, D), in lexicographic order."""
    valid = validate_embeddings(embeddings)
    return valid[sorted(range(len(valid)), key=lambda row: valid[row].tolist())]


def consensus(embeddings: Tensor) -> Tensor:
    """Mean weighted by agreement, with the norm of the photos, or of their patch tokens, restored: (K, D) -> (1, D)."""
    valid = validate_embeddings(embeddings)
    if len(valid) == 1:
        return valid
    weighted = (consensus_weights(valid) @ valid.double().flatten(1)).view(valid.shape[1:])  # (D,) or (T, D)
    norm = valid.double().norm(dim=-1).mean(0)  # () or (T,)
    length = weighted.norm(dim=-1)
    return keep_identical_rows_exact(valid, (weighted * torch.where(length > 0, norm / length, 1.0)[..., None])[None])


def first_weights(embeddings: Tensor) -> Tensor:
    """How much each photo counts for `first`: (K, D) -> (K,)."""
    return torch.eye(len(validate_embeddings(embeddings)), dtype=torch.float64)[0]


def uniform_weights(embeddings: Tensor) -> Tensor:
    """How much each photo counts for `mean`: (K, D) -> (K,)."""
    count = len(validate_embeddings(embeddings))
    return torch.full((count,), 1 / count, dtype=torch.float64)


def consensus_weights(embeddings: Tensor) -> Tensor:
    """Weights (K,) that sum to one: softmax, of 6 times each photo's cosine to the mean of the others.

    Embeddings are expected to be centred; otherwise all cosines are alike. Of patch tokens (K, T, D), mean tokens are compared:
    one position of two photos shows different things where the framing differs.
    """
    valid = validate_embeddings(embeddings).double()
    photos = valid.mean(1) if valid.ndim == 3 else valid  # (K, D)
    return torch.softmax(TEMPERATURE * leave_one_out_cosines(photos), dim=0)


def leave_one_out_cosines(embeddings: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each photo's cosine to the mean of the others: (..., K, D) -> (..., K). mask: (..., K), which rows are photos."""
    counted = torch.ones_like(embeddings[..., 0]) if mask is None else mask.to(embeddings)
    masked = embeddings * counted[..., None]
    others = masked.sum(-2, keepdim=True) - masked
    others = others / (counted.sum(-1)[..., None, None] - 1).clamp(min=1)  # (..., K, D)
    return torch.nn.functional.cosine_similarity(masked, others, dim=-1)  # over features, not over photos


def validate_embeddings(embeddings: Tensor, max_ndim: int = 3) -> Tensor:
    """The same, if it is (K, D) or, by default, (K, T, D), with K at least 1 and finite; raises DataError otherwise."""
    finite = bool(torch.isfinite(embeddings).all())
    if not 2 <= embeddings.ndim <= max_ndim or len(embeddings) == 0 or not finite:
        needed = f"{'(K, D)' if max_ndim == 2 else '(K, D) or (K, T, D)'} with at least one photo and finite values is needed"
        raise DataError(f"embeddings of shape {tuple(embeddings.shape)}, finite: {finite}", needed, "Give one row a photo")
    return embeddings


def keep_identical_rows_exact(embeddings: Tensor, pooled: Tensor) -> Tensor:
    """`pooled` (M, D) or (M, T, D), rounded to the rows' type; where all rows are equal, that row itself to the last bit."""
    return embeddings[:1] if bool((embeddings == embeddings[0]).all()) else pooled.to(embeddings.dtype)
