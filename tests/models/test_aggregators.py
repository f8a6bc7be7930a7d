from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tenth.core.errors import ModelError, RecipeError
from tenth.models.aggregators.checkpoint import Trained, load_aggregator, save_aggregator
from tenth.models.aggregators.pooling import agreement, consensus
from tenth.models.aggregators.self_attention import AttentionSettings, PhotoAttention, as_many
from tenth.models.aggregators.set_aggregator import SetAggregator, SetSettings

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
    "settings", [SetSettings(), SetSettings(residual=False), SetSettings(content=False, hidden=16, layers=1)]
)
@pytest.mark.parametrize("count", [1, 2, 5, 9, 12])
def test_law_4_an_untrained_set_aggregator_is_the_consensus_mean(settings: SetSettings, count: int) -> None:
    rows = photos(count)
    aggregator = SetAggregator(WIDTH, settings).double()
    assert torch.equal(aggregator.pool(rows), consensus(rows))
    torch.testing.assert_close(aggregator.weights(rows), agreement(rows))


def test_rows_that_are_no_photos_never_matter() -> None:
    aggregator = trained(SetAggregator(WIDTH))
    rows = photos(9).double()[None]
    present = torch.arange(9)[None] < 5
    alone = aggregator(rows[:, :5])
    torch.testing.assert_close(aggregator(rows * present[..., None], present), alone)


@pytest.mark.parametrize(
    "module", [PhotoAttention(WIDTH), SetAggregator(WIDTH), SetAggregator(WIDTH, SetSettings(residual=False))]
)
@pytest.mark.parametrize("count", [4, 9])
def test_order_does_not_matter(module: PhotoAttention | SetAggregator, count: int) -> None:
    aggregator, rows = trained(module), photos(count)
    turned = rows[torch.randperm(count, generator=torch.Generator().manual_seed(1))]
    one, other = (aggregator.pool(given) for given in (rows, turned))
    torch.testing.assert_close(one.sort(0).values, other.sort(0).values)


def test_weights_sum_to_one_and_pool_stays_among_the_photos_without_a_residual() -> None:
    aggregator, rows = trained(SetAggregator(WIDTH, SetSettings(residual=False))), photos(5)
    weights = aggregator.weights(rows)
    assert float(weights.sum()) == pytest.approx(1)
    assert not torch.allclose(weights, agreement(rows))  # it has moved away
    mean = weights @ rows.double()
    torch.testing.assert_close(aggregator.pool(rows)[0], (mean * rows.double().norm(dim=1).mean() / mean.norm()).float())


def test_untrained_attention_changes_nothing() -> None:
    rows = photos(9)
    ordered = as_many(rows, 9, 0)
    assert torch.equal(PhotoAttention(WIDTH).double().pool(rows), ordered)
    mean = PhotoAttention(WIDTH, AttentionSettings(readout="mean")).double().pool(rows)
    torch.testing.assert_close(mean, rows.mean(0, keepdim=True))


def test_surplus_photos_are_dropped_and_missing_ones_drawn_again() -> None:
    many = photos(12)
    assert {tuple(row.tolist()) for row in as_many(many, 9, 0)} == {tuple(row.tolist()) for row in many[:9]}
    few = photos(4)
    nine = as_many(few, 9, 0)
    assert nine.shape == (9, WIDTH)
    assert {tuple(row.tolist()) for row in nine} == {tuple(row.tolist()) for row in few}  # all of them, and none else
    assert torch.equal(nine, as_many(few, 9, 0))
    assert any(not torch.equal(nine, as_many(few, 9, seed)) for seed in range(1, 5))


@pytest.mark.parametrize("module", [SetAggregator(WIDTH), PhotoAttention(WIDTH)])
def test_everything_learns_from_the_second_step_on(module: PhotoAttention | SetAggregator) -> None:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    target = photos(8, seed=5)[:, None]
    for _ in range(2):
        optimizer.zero_grad()
        (module(photos(72).view(8, 9, WIDTH)) - target).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
        if isinstance(module, SetAggregator) and _ == 0:
            assert float(gradients["gain"].abs()) > 0  # the residual is still off, its gain already learns
        optimizer.step()
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []


def test_the_aggregators_stay_in_full_precision_under_autocast() -> None:
    rows = photos(9)[None]
    with torch.autocast("cpu", torch.bfloat16):
        for module in (SetAggregator(WIDTH), PhotoAttention(WIDTH)):
            assert module(rows).dtype == torch.float32


def test_an_unknown_readout_is_refused() -> None:
    with pytest.raises(RecipeError, match="rows, mean"):
        AttentionSettings(readout="max")


@pytest.mark.parametrize("module", [PhotoAttention(WIDTH), SetAggregator(WIDTH, SetSettings(hidden=8, heads=2))])
def test_a_saved_aggregator_comes_back_and_equal_ones_give_equal_bytes(
    module: PhotoAttention | SetAggregator, tmp_path: Path
) -> None:
    aggregator = trained(module)
    for name in "ab":
        save_aggregator(Trained(aggregator, "encoder@1", "adapter@2"), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    read = load_aggregator(tmp_path / "a")
    assert (read.encoder, read.adapter, read.aggregator.settings) == ("encoder@1", "adapter@2", module.settings)
    assert torch.equal(read.aggregator.pool(photos(9)), aggregator.pool(photos(9)))


@pytest.mark.parametrize("content", [b"", b"half a file", pickle.dumps([1])])
def test_a_file_that_is_no_aggregator_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ModelError, match="an aggregator that `tenth train` wrote is needed"):
        load_aggregator(tmp_path / "a")
    with pytest.raises(ModelError):
        load_aggregator(tmp_path / "missing")
