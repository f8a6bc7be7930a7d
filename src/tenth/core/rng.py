"""Random numbers of a training step, a pure function of (seed, step). Micro-batches take rows of the same numbers."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable

import torch
from torch import Tensor


def derive_seed(purpose: str, seed: int, index: int) -> int:
    """A 63-bit seed for one purpose, from the run's seed and an index such as the step."""
    digest = hashlib.sha256(f"{purpose} {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class StepRNG:
    """Random numbers with a row for each image of a step's batch, of which the rows of `micro_batch` are returned.

    Several processes or micro-batches together get exactly the numbers of one process with the whole batch. Every call samples
    for the whole batch, so all must make the same calls. On the CPU.
    """

    def __init__(self, seed: int, step: int, batch_size: int, micro_batch: slice | None = None) -> None:
        self.seed, self.step, self.batch_size, self.micro_batch = seed, step, batch_size, micro_batch or slice(None)
        self.generator, self.repeats = torch.Generator().manual_seed(derive_seed("noise", seed, step)), 1
        self.kept: Tensor | None = None

    def repeated(self, repeats: int) -> StepRNG:
        """The same stream with `repeats` rows for each image, b x repeats in all: those of all images, then all again."""
        other = copy.copy(self)  # which shares the generator
        other.repeats = repeats
        return other

    def selected(self, kept: Tensor) -> StepRNG:
        """The same stream, of whose draws the micro-batch's rows `kept` (n,) alone are returned."""
        other = copy.copy(self)  # which shares the generator
        other.kept = kept
        return other

    def batch_indices(self) -> Tensor:
        """The index of each image in the step's batch: (b,), of `selected` ones (n,)."""
        return self._rows(lambda: torch.arange(self.batch_size))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, (b, *shape)."""
        return self._rows(lambda: torch.randn(self.batch_size, *shape, generator=self.generator))

    def uniform(self, *shape: int) -> Tensor:
        """In [0, 1), (b, *shape)."""
        return self._rows(lambda: torch.rand(self.batch_size, *shape, generator=self.generator))

    def integers(self, high: int, *shape: int) -> Tensor:
        """In [0, high), (b, *shape)."""
        return self._rows(lambda: torch.randint(high, (self.batch_size, *shape), generator=self.generator))

    def _rows(self, draw: Callable[[], Tensor]) -> Tensor:
        """The micro-batch's rows of each of the draws for the whole batch."""
        rows = torch.cat([draw()[self.micro_batch] for _ in range(self.repeats)])
        return rows if self.kept is None else rows[self.kept]

    def scalar(self) -> float:
        """One number in [0, 1) for the whole batch."""
        return float(torch.rand((), generator=self.generator))
