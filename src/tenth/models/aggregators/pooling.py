"""Pooling without training: (K, D) embeddings of one person's photos -> (M, D). Only `first` depends on the order of photos.

`mean` and `consensus` take weights of photos, (K,): a photo of weight 0 is as one that is not given, and only ratios count.
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


def mean(embeddings: Tensor, weights: Tensor | None = None) -> Tensor:
    """Element-wise mean. (K, D) -> (1, D). Its norm shrinks as photos disagree."""
    valid = validate_embeddings(embeddings).double()
    if weights is None:
        return keep_identical_rows_exact(embeddings, valid.mean(0, keepdim=True))
    return keep_identical_rows_exact(embeddings, _weighted(uniform_weights(embeddings, weights), valid)[None])


def concatenation(embeddings: Tensor) -> Tensor:
    """All photos: the UNet attends to the tokens of all. (K, D) -> (K, D), in lexicographic order."""
    valid = validate_embeddings(embeddings)
    return valid[sorted(range(len(valid)), key=lambda row: valid[row].tolist())]


def consensus(embeddings: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean weighted by agreement, with the norm of the photos, or of their patch tokens, restored: (K, D) -> (1, D)."""
    valid = validate_embeddings(embeddings)
    if len(valid) == 1:
        return valid
    weighted = _weighted(consensus_weights(valid, weights), valid.double())  # (D,) or (T, D)
    norms = valid.double().norm(dim=-1)  # (K,) or (K, T)
    norm = norms.mean(0) if weights is None else _weighted(uniform_weights(valid, weights), norms)  # () or (T,)
    length = weighted.norm(dim=-1)
    return keep_identical_rows_exact(valid, (weighted * torch.where(length > 0, norm / length, 1.0)[..., None])[None])


def first_weights(embeddings: Tensor) -> Tensor:
    """How much each photo counts for `first`: (K, D) -> (K,)."""
    return torch.eye(len(validate_embeddings(embeddings)), dtype=torch.float64)[0]


def uniform_weights(embeddings: Tensor, weights: Tensor | None = None) -> Tensor:
    """How much each photo counts for `mean`: (K, D) -> (K,)."""
    count = len(validate_embeddings(embeddings))
    if weights is None:
        return torch.full((count,), 1 / count, dtype=torch.float64)
    return weights.double() / weights.double().sum()


def consensus_weights(embeddings: Tensor, weights: Tensor | None = None) -> Tensor:
    """Weights (K,) that sum to one: softmax, of 6 times each photo's cosine to the mean of the others.

    weights: (K,), in proportion to which photos count, in that mean and in the sum.
    Embeddings are expected to be centred; otherwise all cosines are alike. Of patch tokens (K, T, D), mean tokens are compared:
    one position of two photos shows different things where the framing differs.
    """
    valid = validate_embeddings(embeddings).double()
    photos = valid.mean(1) if valid.ndim == 3 else valid  # (K, D)
    if weights is None:
        return torch.softmax(TEMPERATURE * leave_one_out_cosines(photos), dim=0)
    weights = weights.double()
    others = weights @ photos - weights[:, None] * photos  # (K, D): a cosine needs no division by their number
    logits = TEMPERATURE * torch.nn.functional.cosine_similarity(photos, others, dim=-1)
    return torch.softmax(logits + weights.log(), dim=0)  # the logarithm of 0 leaves a photo out


def _weighted(weights: Tensor, values: Tensor) -> Tensor:
    """The weighted sum over photos: (K,) and (K, ...) -> (...)."""
    total: Tensor = (weights @ values.flatten(1) if values.ndim > 1 else weights @ values).view(values.shape[1:])
    return total


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
