from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tenth.core.errors import DataError
from tenth.training.frozen_network import swapped_out


def replace_and_fail(weights: list[nn.Parameter], large: int) -> None:
    with swapped_out(weights, large):
        for weight in weights:
            weight.data = torch.zeros_like(weight, dtype=torch.bfloat16)
        raise KeyError


@pytest.mark.parametrize("large", [0, 2**40])
def test_weights_are_back_to_the_last_bit_in_whatever_order_they_lie(
    large: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    layers = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(4, 6)).to(memory_format=torch.channels_last).requires_grad_(False)
    layers[1].half()
    before = {name: (value.clone(), value.stride()) for name, value in layers.state_dict().items()}
    weights = list(layers.parameters())
    with pytest.raises(KeyError):
        replace_and_fail(weights, large)
    for name, value in layers.state_dict().items():
        assert torch.equal(value, before[name][0])
        assert value.stride() == before[name][1]
        assert value.dtype == before[name][0].dtype
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_before_anything_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    weight = nn.Parameter(torch.ones(4))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tenth.training.frozen_network._write_tensor", full)
    with pytest.raises(DataError, match="No space"), swapped_out([weight], 0):
        pytest.fail("went on")
    assert torch.equal(weight.data, torch.ones(4))
