from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from fresh import Fresh
from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.rng import StepRNG
from tenth.training.checkpoint import exclusive_run, load_checkpoint
from tenth.training.distributed import distributed_state
from tenth.training.loop import fit
from tenth.training.monitoring import weight_statistics
from tenth.training.schedule import TrainingConfig
from tenth.training.state import ema_keys, tensors_under

SCHEDULE = TrainingConfig(
    total_images=160,
    batch_size=4,
    learning_rate=1e-2,
    warmup_images=16,
    ema_halflife_images=20,
    checkpoint_every_images=40,
    precision="fp32",
)
DATA = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))


class KilledError(Exception):
    pass


def toy() -> nn.Module:
    torch.manual_seed(1)
    return nn.Linear(3, 3)


def train(
    directory: Path, schedule: TrainingConfig = SCHEDULE, kill_at: int | None = None, seen: list[int] | None = None
) -> dict[str, Tensor]:
    model, calls = toy(), 0

    def loss(indices: Tensor, draws: StepRNG) -> Tensor:
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


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_run_killed_many_times_equals_an_unbroken_one_to_the_last_bit(tmp_path: Path, optimizer: str) -> None:
    schedule = replace(SCHEDULE, optimizer=optimizer)
    unbroken = train(tmp_path / "one", schedule)
    for kill_at in (3, 13, 15, 1, 12):
        with pytest.raises(KilledError):
            train(tmp_path / "two", schedule, kill_at=kill_at)
    resumed = train(tmp_path / "two", schedule)
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_averages_of_several_lengths_are_kept_and_go_on_to_the_last_bit(tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, extra_ema_halflives_images=(5, 80))
    with pytest.raises(KilledError):
        train(tmp_path / "one", schedule, kill_at=25)
    train(tmp_path / "one", schedule)
    alone = {length: train(tmp_path / f"{length}", replace(SCHEDULE, ema_halflife_images=length)) for length in (20, 5, 80)}
    checkpoint = load_checkpoint(tmp_path / "one")
    assert checkpoint is not None
    for key, length in zip(ema_keys([20, 5, 80]), alone, strict=True):
        found = tensors_under(checkpoint.tensors, key)
        assert found.keys() == alone[length].keys()
        assert all(torch.equal(value, alone[length][name]) for name, value in found.items()), key


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 1e-2), ("muon", 3e-2)])
def test_training_lowers_the_loss(tmp_path: Path, optimizer: str, rate: float) -> None:
    before = toy()
    after = train(tmp_path, replace(SCHEDULE, optimizer=optimizer, learning_rate=rate))
    learnt = toy()
    learnt.load_state_dict({name.removeprefix("model."): tensor for name, tensor in after.items()})
    with torch.no_grad():
        errors = [float((model(DATA) - DATA).square().mean()) for model in (before, learnt)]
    assert errors[1] < 0.8 * errors[0]


def test_every_item_is_seen_equally_often(tmp_path: Path) -> None:
    seen: list[int] = []
    train(tmp_path, seen=seen)
    assert {seen.count(item) for item in range(len(DATA))} == {16}


# A process of its own: a signal that nobody takes ends the process that it is sent to.
INTERRUPTED = """
import signal, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
from tenth.training.loop import fit
from test_loop import DATA, SCHEDULE, toy

model, calls, before = toy(), 0, signal.getsignal({number})

def loss(indices, _):
    global calls
    calls += 1
    if calls == 8:
        for _ in range({times}):
            signal.raise_signal({number})
    return model(DATA[indices]).square().mean()

try:
    fit({{"model": model}}, loss, len(DATA), SCHEDULE, Path("run"))
except KeyboardInterrupt:
    print("stopped after", calls, signal.getsignal({number}) == before)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_the_step_and_saves_it(tmp_path: Path, fresh: Fresh, number: signal.Signals) -> None:
    done = fresh.loaded.python(INTERRUPTED.format(folder=str(Path(__file__).parent), number=int(number), times=1), at=tmp_path)
    assert done.out == "stopped after 8 True\n", done.err
    assert max(path.name for path in tmp_path.glob("run/step-*")) == "step-00000008"


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path, fresh: Fresh) -> None:
    done = fresh.loaded.python(INTERRUPTED.format(folder=str(Path(__file__).parent), number=2, times=2), at=tmp_path)
    assert done.out == "stopped after 8 True\n", done.err
    assert not list(tmp_path.glob("run/step-00000008"))


def test_a_loss_that_is_not_finite_is_an_error(tmp_path: Path) -> None:
    model = toy()
    with pytest.raises(DataError, match="nan at step 0"):
        fit({"model": model}, lambda *_: model(DATA).mean() * float("nan"), len(DATA), SCHEDULE, tmp_path)


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    train(tmp_path)
    other = nn.Linear(3, 3)
    with pytest.raises(CheckpointError, match="other weights"):
        fit({"other": other}, lambda *_: other(DATA).mean(), len(DATA), SCHEDULE, tmp_path)


def test_parts_of_a_batch_give_what_the_whole_gives(tmp_path: Path) -> None:
    whole = train(tmp_path / "one")
    parts = train(tmp_path / "two", replace(SCHEDULE, gradient_accumulation_steps=2))
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-5, atol=1e-6)


def test_dropout_is_the_same_after_a_kill(tmp_path: Path) -> None:
    def run(directory: Path, kill_at: int | None = None) -> dict[str, Tensor]:
        model, calls = nn.Sequential(toy(), nn.Dropout(0.5)), 0

        def loss(indices: Tensor, _: StepRNG) -> Tensor:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise KilledError
            return (model(DATA[indices]) - DATA[indices]).square().mean()

        return fit({"model": model}, loss, len(DATA), SCHEDULE, directory)

    unbroken = run(tmp_path / "one")
    with pytest.raises(KilledError):
        run(tmp_path / "two", kill_at=15)
    resumed = run(tmp_path / "two")
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_half_precision_scales_the_loss_and_keeps_the_scale(tmp_path: Path) -> None:
    schedule = replace(SCHEDULE, precision="fp16")
    unbroken = train(tmp_path / "one", schedule)
    with pytest.raises(KilledError):
        train(tmp_path / "two", schedule, kill_at=15)
    resumed = train(tmp_path / "two", schedule)
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)
    saved = load_checkpoint(tmp_path / "two")
    assert saved is not None
    assert saved.tensors["scaler.scale"] > 1


def test_what_is_watched_is_on_the_board_and_precedes_each_checkpoint(tmp_path: Path) -> None:
    model, watched = toy(), []

    def watch(seen: int, average: Mapping[str, Tensor]) -> dict[str, Any]:
        assert not (tmp_path / f"step-{seen // SCHEDULE.batch_size:08d}").exists()
        watched.append(seen)
        assert set(average) == {"model.weight", "model.bias"}
        return {"validation/similarity": 0.5, "validation/images": np.zeros((4, 6, 3), np.uint8)}

    fit({"model": model}, lambda indices, _: model(DATA[indices]).square().mean(), len(DATA), SCHEDULE, tmp_path, watch)
    assert watched == [40, 80, 120, 160]
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    curves = {"training/loss", "training/learning rate", "training/gradient norm", "training/images per second"}
    assert set(board.Tags()["scalars"]) >= {*curves, "weights/model norm", "validation/similarity"}
    assert [event.step for event in board.Scalars("training/loss")] == list(range(4, 161, 4))
    assert board.Tags()["images"] == ["validation/images"]


@pytest.mark.parametrize("kill_at", [7, 27])  # before and after the first checkpoint
def test_the_curves_of_a_resumed_run_have_every_step_once(tmp_path: Path, kill_at: int) -> None:
    with pytest.raises(KilledError):
        train(tmp_path, kill_at=kill_at)
    train(tmp_path)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("training/loss")] == list(range(4, 161, 4))
    assert [event.step for event in board.Scalars("weights/model norm")] == [40, 80, 120, 160]


def test_two_runs_do_not_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.core.files.claims.os.getpid", count().__next__)  # each time as if from another process
    with exclusive_run(tmp_path, True), pytest.raises(CheckpointError, match="another run is writing"):
        train(tmp_path)


def test_weight_statistics() -> None:
    found = weight_statistics({"a.x": torch.tensor([3.0, 5.0]), "a.y": torch.tensor([[4.0]]), "b.x": torch.tensor([1.0])})
    assert found["weights/a mean"] == pytest.approx(4.0)
    assert found["weights/a norm"] == pytest.approx(50**0.5)
    assert found["weights/a deviation"] == pytest.approx((2 / 3) ** 0.5)
    assert found["weights/b deviation"] == 0


def test_moments_in_eight_bits_go_on_to_the_last_bit(tmp_path: Path) -> None:
    """A layer large enough for eight bits: smaller ones keep theirs in thirty-two."""
    pytest.importorskip("bitsandbytes", reason="the extra eight-bit is not installed")
    schedule = replace(SCHEDULE, optimizer="adamw-8bit", total_images=24, checkpoint_every_images=8)
    data = torch.randn(10, 80, generator=torch.Generator().manual_seed(0))

    def run(directory: Path, kill_at: int | None = None) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        torch.manual_seed(1)
        model, calls = nn.Linear(80, 80), iter(range(100))

        def loss(indices: Tensor, draws: StepRNG) -> Tensor:
            if next(calls) == kill_at:
                raise KilledError
            return (model(data[indices] + draws.normal(80)) - data[indices]).square().mean()

        average = fit({"model": model}, loss, len(data), schedule, directory)
        checkpoint = load_checkpoint(directory)
        assert checkpoint is not None
        return average, checkpoint.tensors

    unbroken, saved = run(tmp_path / "one")
    assert saved["state1.model.weight"].dtype == torch.uint8
    assert saved["state1.model.bias"].dtype == torch.float32
    with pytest.raises(KilledError):
        run(tmp_path / "two", kill_at=5)
    resumed, again = run(tmp_path / "two")
    assert all(torch.equal(value, resumed[name]) for name, value in unbroken.items())
    assert saved.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in saved.items())


def test_an_optimizer_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="optimizer is 'adam'; needed: one of adamw, adamw-8bit"):
        replace(SCHEDULE, optimizer="adam")
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(RecipeError, match=r"bitsandbytes, `pip install 'tenth\[eight-bit\]'`, or adamw"):
        train(tmp_path, replace(SCHEDULE, optimizer="adamw-8bit"))


@pytest.mark.parametrize(("asked", "found", "on_cpu"), [("cpu", True, True), ("", True, False), ("", False, True)])
def test_the_accelerator_is_used_unless_the_cpu_is_asked_for(
    asked: str, found: bool, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, object]] = []
    monkeypatch.setattr("tenth.training.distributed.PartialState", lambda **options: given.append(options))
    monkeypatch.setattr("torch.accelerator.is_available", lambda: found)
    monkeypatch.setenv("TENTH_DEVICE", asked)
    distributed_state()
    assert given[0]["cpu"] is on_cpu
