"""The kernel distance (KID) of rows that come in parts: sums over pairs, so that each pair of parts counts once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from tenth.core.types import FeatureArray, Score
from tenth.evaluation.metrics.kid import kernel_sum, self_kernel_sum


@dataclass
class KernelSums:
    """Sums of the kernel over pairs.

    images: N generated ones. within: over ordered pairs of two generated images. across: over those of a generated image and
    a held-out photo. The pairs of two parts are added by `update_pairs`, once for each two parts.
    """

    images: int = 0
    within: float = 0.0
    across: float = 0.0

    def update(self, rows: FeatureArray, held_out: FeatureArray) -> None:
        """Add rows (N, D) against all held-out rows (M, D), and the pairs within these rows."""
        if len(rows):
            self.images += len(rows)
            self.within += kernel_sum(rows, rows) - self_kernel_sum(rows)
            self.across += kernel_sum(rows, held_out)

    def update_pairs(self, rows: FeatureArray, others: FeatureArray) -> None:
        """Add the pairs of two parts, both of which are added by `update`."""
        if len(rows) and len(others):
            self.within += 2 * kernel_sum(rows, others)

    def merge(self, other: KernelSums) -> None:
        """Add all that the other has."""
        self.images, self.within, self.across = (
            self.images + other.images,
            self.within + other.within,
            self.across + other.across,
        )

    def score(self, held_out: HeldOutKernel) -> Score:
        """`kid` of all images. They and the photos are two at least."""
        pairs = self.images * (self.images - 1)
        return Score(self.within / pairs + held_out.mean - 2 * self.across / (self.images * held_out.photos), n=self.images)

    def to_tensors(self) -> dict[str, Tensor]:
        """sums (3,), float64: whole numbers of images are exact in it."""
        return {"sums": torch.tensor(astuple(self), dtype=torch.float64)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> KernelSums:
        """The inverse of `to_tensors`."""
        images, within, across = tensors["sums"].tolist()
        return cls(int(images), within, across)


@dataclass(frozen=True)
class HeldOutKernel:
    """photos: M of them. mean: of the kernel over their pairs."""

    photos: int
    mean: float

    @classmethod
    def of(cls, rows: FeatureArray) -> HeldOutKernel:
        """Of rows (M, D), M >= 2."""
        return cls(len(rows), (kernel_sum(rows, rows) - self_kernel_sum(rows)) / (len(rows) * (len(rows) - 1)))
