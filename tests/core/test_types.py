"""Identities as data."""

from __future__ import annotations

from dataclasses import replace

import torch

from tenth.core.files.tensors import tensors_digest
from tenth.core.types import Identity


def identity(**weights: torch.Tensor) -> Identity:
    return Identity("m", "model@0", "", "", weights=weights)


def test_equal_weights_have_equal_digests() -> None:
    values = torch.arange(6.0).reshape(2, 3)
    one = identity(down=values, up=values + 1)
    assert one.weights_digest == identity(up=values + 1, down=values.clone()).weights_digest
    assert replace(one, weights={}).weights_digest == ""
    others = [
        {"down": values, "up": values},
        {"down": values},
        {"down": values.T, "up": values + 1},
        {"down": values.double(), "up": values + 1},
        {"down": values, "top": values + 1},
    ]
    assert all(one.weights_digest != identity(**each).weights_digest for each in others)


def test_any_type_and_layout_has_a_digest() -> None:
    values = torch.arange(6.0).reshape(2, 3)
    assert tensors_digest({"a": values.T}) == tensors_digest({"a": values.T.contiguous()})
    assert tensors_digest({"a": values.bfloat16()}) != tensors_digest({"a": values.half()})
    assert len(tensors_digest({"a": torch.tensor(1.0), "b": torch.empty(0)})) == 64
