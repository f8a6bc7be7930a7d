"""The random numbers of one training step: a pure function of (seed, step), whatever part of its batch is asked for."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def seed_of(purpose: str, seed: int, number: int) -> int:
    """A seed of 63 bits for one purpose, from the run's seed and a number such as the step."""
    digest = hashlib.sha256(f"{purpose} {seed} {number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Draws:
    """Random numbers with a row for each image of a step's batch; only the rows of `part` are given.

    Several processes, or several parts one after the other, thus see together exactly what one process sees at once.
    Every call draws for the whole batch and moves on, so that all parts must make the same calls. On the CPU.
    """

    def __init__(self, seed: int, step: int, batch: int, part: slice | None = None) -> None:
        self.batch, self.part = batch, part or slice(None)
        self.generator = torch.Generator().manual_seed(seed_of("noise", seed, step))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (b, *shape)."""
        return torch.randn(self.batch, *shape, generator=self.generator)[self.part]

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), (b, *shape)."""
        return torch.rand(self.batch, *shape, generator=self.generator)[self.part]

    def integers(self, high: int, *shape: int) -> Tensor:
        """In [0, high), (b, *shape)."""
        return torch.randint(high, (self.batch, *shape), generator=self.generator)[self.part]

    def once(self) -> float:
        """One number in [0, 1) for the whole batch."""
        return float(torch.rand((), generator=self.generator))
