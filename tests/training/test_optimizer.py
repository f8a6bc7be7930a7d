"""Muon beside AdamW: which weights are moved by which, and how."""

from __future__ import annotations

import torch
from torch import nn

from tenth.training.optimizer import create_optimizer


def step(modules: list[nn.Module], name: str, tables: set[torch.Tensor]) -> None:
    parameters = [parameter for module in modules for parameter in module.parameters()]
    for parameter in parameters:
        torch.manual_seed(parameter.numel())
        parameter.grad = torch.randn(parameter.shape)
    create_optimizer(name, parameters, 1e-2, 1e-2, tables).step()


def made() -> tuple[nn.Conv2d, nn.Linear, nn.Embedding]:
    torch.manual_seed(0)
    return nn.Conv2d(6, 4, 3), nn.Linear(5, 7), nn.Embedding(11, 5)


def test_matrices_go_muon_s_way_and_the_rest_adam_s() -> None:
    (*_, words), (convolution, dense, _) = (before := made()), (after := made())
    step(list(after), "muon", {after[2].weight})
    adam = made()
    step(list(adam), "adamw", set())
    assert torch.equal(after[2].weight, adam[2].weight)
    assert not torch.equal(after[2].weight, words.weight)
    assert all(torch.equal(mine.bias, theirs.bias) for mine, theirs in zip(after[:2], adam[:2], strict=True))
    for layer, old in ((convolution, before[0]), (dense, before[1])):
        moved = ((1 - 1e-4) * old.weight - layer.weight).detach().flatten(1)
        ratios = torch.linalg.svdvals(moved) / (1e-2 * 0.2 * max(moved.shape) ** 0.5)
        assert bool(((ratios > 0.6) & (ratios < 1.3)).all()), ratios  # Newton and Schulz' five steps come so near to one


def test_a_convolution_in_any_memory_format_moves_alike() -> None:
    first, last = made(), made()
    last[0].to(memory_format=torch.channels_last)
    for modules in (first, last):
        step(list(modules), "muon", set())
    assert last[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(first[0].weight, last[0].weight, atol=2e-4)  # the iteration is in bfloat16
    assert not torch.allclose(first[0].weight, made()[0].weight, atol=2e-3)
