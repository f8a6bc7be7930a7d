from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tenth.draws import Draws
from tenth.errors import CheckpointError, DataError
from tenth.training import Schedule, fit, learning_rate, order

SCHEDULE = Schedule(images=160, batch=4, learning_rate=1e-2, warmup=16, half_life=20, save_every=40, bfloat16=False)
DATA = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))


class KilledError(Exception):
    pass


def toy() -> nn.Module:
    torch.manual_seed(1)
    return nn.Linear(3, 3)


def train(
    directory: Path, schedule: Schedule = SCHEDULE, kill_at: int | None = None, seen: list[int] | None = None
) -> dict[str, Tensor]:
    model, calls = toy(), 0

    def loss(indices: Tensor, draws: Draws) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == kill_at:
            raise KilledError
        if seen is not None:
            seen.extend(indices.tolist())
        rows = DATA[indices]
        noisy = rows + draws.normal(3)
        return (model(noisy) - rows).square().mean()

    return fit({"model": model}, loss, len(DATA), schedule, directory)


def test_a_run_killed_many_times_equals_an_unbroken_one_to_the_last_bit(tmp_path: Path) -> None:
    unbroken = train(tmp_path / "one")
    for kill_at in (3, 13, 15, 1, 12):
        with pytest.raises(KilledError):
            train(tmp_path / "two", kill_at=kill_at)
    resumed = train(tmp_path / "two")
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    before = toy()
    after = train(tmp_path)
    learnt = toy()
    learnt.load_state_dict({name.removeprefix("model."): tensor for name, tensor in after.items()})
    with torch.no_grad():
        errors = [float((model(DATA) - DATA).square().mean()) for model in (before, learnt)]
    assert errors[1] < 0.8 * errors[0]


def test_every_item_is_seen_equally_often(tmp_path: Path) -> None:
    seen: list[int] = []
    train(tmp_path, seen=seen)
    assert {seen.count(item) for item in range(len(DATA))} == {16}


def test_ctrl_c_saves_where_it_was(tmp_path: Path) -> None:
    model, calls = toy(), 0

    def loss(indices: Tensor, _: Draws) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return model(DATA[indices]).square().mean()

    with pytest.raises(KeyboardInterrupt):
        fit({"model": model}, loss, len(DATA), SCHEDULE, tmp_path)
    assert (tmp_path / "step-00000007").is_dir()


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    model = toy()
    with pytest.raises(DataError, match="nan at step 0"):
        fit({"model": model}, lambda *_: model(DATA).mean() * float("nan"), len(DATA), SCHEDULE, tmp_path)


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    other = nn.Linear(3, 3)
    with pytest.raises(CheckpointError, match="other weights"):
        fit({"other": other}, lambda *_: other(DATA).mean(), len(DATA), SCHEDULE, tmp_path)


def test_order_is_a_pure_function_and_goes_on_over_epochs() -> None:
    whole = order(10, 3, 0, 35)
    assert torch.equal(whole[7:24], order(10, 3, 7, 17))
    assert sorted(whole[10:20].tolist()) == list(range(10))
    assert not torch.equal(whole[:10], whole[10:20])
    assert not torch.equal(whole, order(10, 4, 0, 35))


def test_learning_rate_rises_and_falls_to_zero() -> None:
    rates = [learning_rate(SCHEDULE, seen) for seen in range(0, 161, 4)]
    assert rates[0] < rates[3]
    assert max(rates) <= SCHEDULE.learning_rate
    assert rates[-1] == pytest.approx(0, abs=1e-12)
