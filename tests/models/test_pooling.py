"""Law 3 and what is known of each pooling."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.types import Aggregator
from tenth.models.aggregators import pooling
from tenth.models.aggregators.leave_one_out import leave_one_out_distances
from tenth.models.aggregators.pooling import concatenation, consensus, consensus_weights, first, maximum, mean

POOLED = [maximum, mean, consensus]
ALL = [first, concatenation, *POOLED]


def photos(count: int = 5, width: int = 16, seed: int = 0) -> Tensor:
    """One identity with noise of the same size in each photo, the simulation of docs/log.md."""
    generator = torch.Generator().manual_seed(seed)
    identity = torch.randn(1, width, generator=generator)
    return identity + torch.randn(count, width, generator=generator)


@pytest.mark.parametrize("pool", [concatenation, *POOLED])
def test_the_order_of_photos_does_not_matter(pool: Aggregator) -> None:
    rows = photos(4)
    results = [pool(rows[list(order)]) for order in itertools.permutations(range(4))]
    assert all(torch.allclose(result, results[0], atol=1e-6) for result in results)


@pytest.mark.parametrize("pool", [first, *POOLED])
@pytest.mark.parametrize("copies", [1, 2, 9])
def test_copies_of_one_photo_are_that_photo(pool: Aggregator, copies: int) -> None:
    one = photos(1)
    assert torch.equal(pool(one.repeat(copies, 1)), one)


@pytest.mark.parametrize("pool", ALL)
def test_shapes(pool: Aggregator) -> None:
    assert pool(photos(5)).shape == (5 if pool is concatenation else 1, 16)


@pytest.mark.parametrize("pool", ALL)
@pytest.mark.parametrize("bad", [torch.zeros(0, 8), torch.zeros(8), torch.full((2, 8), float("nan"))])
def test_bad_embeddings_are_an_error(pool: Aggregator, bad: Tensor) -> None:
    with pytest.raises(DataError, match="at least one photo and finite"):
        pool(bad)


def test_norms_are_over_features_and_not_over_photos() -> None:
    """The 'norm over the wrong axis' of two widely used nodes: there a column's scale would change its weight."""
    rows = photos(6)
    assert consensus(rows).norm() == pytest.approx(float(rows.norm(dim=1).mean()), rel=1e-5)
    assert consensus_weights(rows).shape == (6,)
    assert float(consensus_weights(rows).sum()) == pytest.approx(1)
    turned = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))[0]
    assert torch.allclose(consensus(rows @ turned), consensus(rows) @ turned, atol=1e-5)  # no axis of features is special


def test_maximum_grows_and_mean_shrinks() -> None:
    norms = {pool: [float(pool(photos(count, 128)).norm()) for count in (1, 3, 9)] for pool in (maximum, mean)}
    assert norms[maximum] == sorted(norms[maximum])
    assert norms[mean] == sorted(norms[mean], reverse=True)


def test_consensus_holds_out_against_a_wrong_person() -> None:
    """Nine photos, one of somebody else: nearer to the identity than the mean, and the wrong photo counts least."""
    gains = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(100 + seed)
        identity = torch.randn(128, generator=generator)
        rows = identity + torch.randn(9, 128, generator=generator)
        rows[4] = 1.4 * torch.randn(128, generator=generator)
        cosine = [torch.cosine_similarity(pool(rows)[0], identity, dim=0) for pool in (consensus, mean)]
        gains.append(float(cosine[0] - cosine[1]))
        assert int(consensus_weights(rows).argmin()) == 4
    assert sum(gains) / len(gains) > 0.01


# Weights of photos


@pytest.mark.parametrize("pool", [pooling.mean, pooling.consensus])
@pytest.mark.parametrize("shape", [(5, 8), (5, 3, 8)])
def test_weights_of_photos(pool: Callable[..., Tensor], shape: tuple[int, ...]) -> None:
    """Only ratios count; equal ones change nothing; 0 leaves a photo out; the largest draws the result to its photo."""
    embeddings = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    weights = torch.tensor([1.0, 2.0, 0.5, 0.0, 1.0])
    torch.testing.assert_close(pool(embeddings, torch.full((5,), 3.0)), pool(embeddings), atol=1e-6, rtol=0)
    torch.testing.assert_close(pool(embeddings, 7 * weights), pool(embeddings, weights), atol=1e-6, rtol=0)
    kept = weights > 0
    torch.testing.assert_close(pool(embeddings[kept], weights[kept]), pool(embeddings, weights), atol=1e-6, rtol=0)
    only = torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0])
    torch.testing.assert_close(pool(embeddings, only), embeddings[2:3], atol=1e-6, rtol=0)
    order = torch.tensor([3, 1, 4, 0, 2])
    torch.testing.assert_close(pool(embeddings[order], weights[order]), pool(embeddings, weights), atol=1e-6, rtol=0)


def test_a_weighted_mean_is_the_mean_of_copies() -> None:
    embeddings = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    copies = embeddings[[0, 0, 0, 1, 2, 2]]
    torch.testing.assert_close(pooling.mean(embeddings, torch.tensor([3.0, 1.0, 2.0])), pooling.mean(copies))
    for shares in (pooling.uniform_weights, pooling.consensus_weights):
        assert shares(embeddings, torch.tensor([3.0, 1.0, 2.0])).sum() == pytest.approx(1)


def test_leaving_a_photo_out_is_measured_on_the_pooled_embedding() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    distances = leave_one_out_distances(embeddings, lambda rows, some: pooling.mean(rows[some]))
    cosine = torch.nn.functional.cosine_similarity
    whole = torch.tensor([2.0, 1.0])
    expected = [1 - float(cosine(torch.tensor(rest), whole, dim=0)) for rest in ([1.0, 1.0], [1.0, 1.0], [1.0, 0.0])]
    assert distances.tolist() == pytest.approx(expected, abs=1e-6)
    side_by_side = leave_one_out_distances(embeddings, lambda rows, some: pooling.concatenation(rows[some]))
    assert side_by_side.tolist() == pytest.approx(expected, abs=1e-6)  # of several rows the means are compared
