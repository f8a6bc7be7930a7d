"""The training schedule: what is refused, the learning rate, and the order of the images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tenth.core.errors import RecipeError
from tenth.core.optional_packages import openvino_core
from tenth.training.distributed import micro_batches
from tenth.training.schedule import DTYPES, TrainingConfig, autocast_dtype, learning_rate, shuffled_indices

SCHEDULE = TrainingConfig(total_images=160, batch_size=4, learning_rate=1e-2, warmup_images=16, ema_halflife_images=20)


def test_the_rate_is_constant_until_it_cools_down() -> None:
    schedule = replace(SCHEDULE, cooldown_images=40, warmup_images=8)
    rates = [learning_rate(schedule, seen) / schedule.learning_rate for seen in (0, 4, 60, 120, 140, 160, 200)]
    assert rates == [0.5, 1, 1, 1, 0.5, 0, 0]
    for wrong in (-1, 161):
        with pytest.raises(RecipeError, match="cooldown_images is"):
            replace(SCHEDULE, cooldown_images=wrong)
    for lengths in ((20,), (0,), (3, 3)):
        with pytest.raises(RecipeError, match="extra_ema_halflives_images"):
            replace(SCHEDULE, extra_ema_halflives_images=lengths)


def test_auto_is_bf16_only_where_the_processor_computes_in_it() -> None:
    cpu = torch.device("cpu")
    has_bf16 = "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    assert autocast_dtype(SCHEDULE.precision, cpu) == (torch.bfloat16 if has_bf16 else torch.float32)
    assert autocast_dtype("auto", torch.device("mps")) == torch.bfloat16
    for name, dtype in DTYPES.items():
        assert autocast_dtype(name, cpu) == dtype


def test_order_is_a_pure_function_and_goes_on_over_epochs() -> None:
    whole = shuffled_indices(10, 3, 0, 35)
    assert torch.equal(whole[7:24], shuffled_indices(10, 3, 7, 17))
    assert sorted(whole[10:20].tolist()) == list(range(10))
    assert not torch.equal(whole[:10], whole[10:20])
    assert not torch.equal(whole, shuffled_indices(10, 4, 0, 35))


def test_learning_rate_rises_and_falls_to_zero() -> None:
    rates = [learning_rate(SCHEDULE, seen) for seen in range(0, 161, 4)]
    assert rates[0] < rates[3]
    assert max(rates) <= SCHEDULE.learning_rate
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"gradient_accumulation_steps": 3},
        {"precision": "half"},
        {"total_images": 0},
        {"learning_rate": 0.0},
        {"warmup_images": -1},
    ],
)
def test_an_impossible_schedule_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=next(iter(wrong))):
        replace(SCHEDULE, **wrong)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(RecipeError, match="a multiple of 3"):
        micro_batches(SCHEDULE, num_processes=3, process_index=0)
