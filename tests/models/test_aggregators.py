from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tenth.core.errors import ModelError, RecipeError
from tenth.models.aggregators.checkpoint import AggregatorCheckpoint, load_aggregator, save_aggregator
from tenth.models.aggregators.pooling import consensus, consensus_weights
from tenth.models.aggregators.self_attention import SelfAttentionAggregator, SelfAttentionConfig, resample_to
from tenth.models.aggregators.set_aggregator import SetAggregator, SetAggregatorConfig

WIDTH = 16


def photos(count: int, seed: int = 0) -> Tensor:
    return torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(seed + 99)) + torch.randn(
        count, WIDTH, generator=torch.Generator().manual_seed(seed)
    )


def trained(module: nn.Module) -> nn.Module:
    """The module, far from where training begins."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.double()


@pytest.mark.parametrize(
    "settings",
    [
        SetAggregatorConfig(),
        SetAggregatorConfig(use_residual=False),
        SetAggregatorConfig(use_embeddings=False, hidden_dim=16, layers=1),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_law_4_an_untrained_set_aggregator_is_the_consensus_mean(settings: SetAggregatorConfig, count: int) -> None:
    rows = photos(count)
    aggregator = SetAggregator(WIDTH, settings).double()
    assert torch.equal(aggregator.pool(rows), consensus(rows))
    torch.testing.assert_close(aggregator.photo_weights(rows), consensus_weights(rows))


def test_rows_that_are_no_photos_never_matter() -> None:
    aggregator = trained(SetAggregator(WIDTH))
    rows = photos(9).double()[None]
    present = torch.arange(9)[None] < 5
    alone = aggregator(rows[:, :5])
    torch.testing.assert_close(aggregator(rows * present[..., None], present), alone)


@pytest.mark.parametrize(
    "module",
    [SelfAttentionAggregator(WIDTH), SetAggregator(WIDTH), SetAggregator(WIDTH, SetAggregatorConfig(use_residual=False))],
)
@pytest.mark.parametrize("count", [4, 9])
def test_order_does_not_matter(module: SelfAttentionAggregator | SetAggregator, count: int) -> None:
    aggregator, rows = trained(module), photos(count)
    turned = rows[torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    one, other = (aggregator.pool(given) for given in (rows, turned))
    torch.testing.assert_close(one.sort(0).values, other.sort(0).values)


def test_weights_sum_to_one_and_pool_stays_among_the_photos_without_a_residual() -> None:
    aggregator, rows = trained(SetAggregator(WIDTH, SetAggregatorConfig(use_residual=False))), photos(5)
    weights = aggregator.photo_weights(rows)
    assert float(weights.sum()) == pytest.approx(1)
    assert not torch.allclose(weights, consensus_weights(rows))  # it has moved away
    mean = weights @ rows.double()
    torch.testing.assert_close(aggregator.pool(rows)[0], (mean * rows.double().norm(dim=1).mean() / mean.norm()).float())


def test_untrained_attention_changes_nothing() -> None:
    rows = photos(9)
    ordered = resample_to(rows, 9, 0)
    assert torch.equal(SelfAttentionAggregator(WIDTH).double().pool(rows), ordered)
    mean = SelfAttentionAggregator(WIDTH, SelfAttentionConfig(pooling="mean")).double().pool(rows)
    torch.testing.assert_close(mean, rows.mean(0, keepdim=True))


def test_surplus_photos_are_dropped_and_missing_ones_generated_again() -> None:
    many = photos(12)
    assert {tuple(row.tolist()) for row in resample_to(many, 9, 0)} == {tuple(row.tolist()) for row in many[:9]}
    few = photos(4)
    nine = resample_to(few, 9, 0)
    assert nine.shape == (9, WIDTH)
    assert {tuple(row.tolist()) for row in nine} == {tuple(row.tolist()) for row in few}  # all of them, and none else
    assert torch.equal(nine, resample_to(few, 9, 0))
    assert any(not torch.equal(nine, resample_to(few, 9, seed)) for seed in range(1, 5))


@pytest.mark.parametrize("module", [SetAggregator(WIDTH), SelfAttentionAggregator(WIDTH)])
def test_everything_learns_from_the_second_step_on(module: SelfAttentionAggregator | SetAggregator) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    target = photos(8, seed=5)[:, None]
    for _ in range(2):
        optimizer.zero_grad()
        (module(photos(72).view(8, 9, WIDTH)) - target).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
        if isinstance(module, SetAggregator) and _ == 0:
            assert float(gradients["residual_scale"].abs()) > 0  # the residual is still off, its gain already learns
        optimizer.step()
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


def test_the_aggregators_stay_in_full_precision_under_autocast() -> None:
    rows = photos(9)[None]
    with torch.autocast("cpu", torch.bfloat16):
        for module in (SetAggregator(WIDTH), SelfAttentionAggregator(WIDTH)):
            assert module(rows).dtype == torch.float32


def test_an_unknown_readout_is_refused() -> None:
    with pytest.raises(RecipeError, match="pooling is 'max'; needed: 'rows' or 'mean'"):
        SelfAttentionConfig(pooling="max")


@pytest.mark.parametrize(
    "module", [SelfAttentionAggregator(WIDTH), SetAggregator(WIDTH, SetAggregatorConfig(hidden_dim=8, heads=2))]
)
def test_a_saved_aggregator_comes_back_and_equal_ones_give_equal_bytes(
    module: SelfAttentionAggregator | SetAggregator, tmp_path: Path
) -> None:
    aggregator = trained(module)
    for name in "ab":
        save_aggregator(AggregatorCheckpoint(aggregator, "encoder@1", "adapter@2"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = load_aggregator(tmp_path / "a")
    assert (read.encoder, read.adapter, read.aggregator.config) == ("encoder@1", "adapter@2", module.config)
    assert torch.equal(read.aggregator.pool(photos(9)), aggregator.pool(photos(9)))


@pytest.mark.parametrize("content", [b"", b"half a file", pickle.dumps([1])])
def test_a_file_that_is_no_aggregator_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelError, match="an aggregator that `tenth train` wrote is needed"):
        load_aggregator(tmp_path / "a")
    with pytest.raises(ModelError):
        load_aggregator(tmp_path / "missing")
