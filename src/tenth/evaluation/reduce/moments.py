"""Mean and covariance of rows that come in parts: what the Fréchet distances need.

The covariance is kept as a root, whose rows are stacked and, once there are many, replaced by the triangle of their QR
decomposition. A sum of squares would lose half of the digits: roots of its rounding errors would count.
Source: Chan, Golub and LeVeque 1983, doi:10.1080/00031305.1983.10483115; Demmel et al. 2012, arXiv:0808.2664 (TSQR).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import FeatureArray
from tenth.evaluation.metrics.frechet import Gaussian
from tenth.evaluation.metrics.inputs import require_images

STACKED = 3  # rows of the root, over its width, before it is made a triangle: half as much work again as all at once


class Moments:
    """count, mean and root of N rows (N, D): root'root, with root (K, D), is the sum of (x - mean)(x - mean)'."""

    def __init__(self, dim: int) -> None:
        self.count, self.mean = 0, np.zeros(dim)
        self._blocks: list[FeatureArray] = []  # of the root

    def update(self, rows: FeatureArray) -> None:
        """Add rows (N, D), all finite."""
        if len(rows):
            mean = rows.mean(0)
            self._add(len(rows), mean, [rows - mean])

    def merge(self, other: Moments) -> None:
        """Add all that the other has."""
        self._add(other.count, other.mean, other._blocks)

    def gaussian(self, name: str = "generated") -> Gaussian:
        """The Gaussian fitted to the rows. Raises DataError for fewer than two."""
        require_images(self.count, 0, name)
        return Gaussian(self.mean, self.root() / np.sqrt(self.count - 1))

    def root(self) -> FeatureArray:
        """(K, D), K at most D."""
        self._triangulate()
        return self._blocks[0] if self._blocks else np.zeros((0, len(self.mean)))

    def to_tensors(self) -> dict[str, Tensor]:
        """count (1,), mean (D,), root (K, D)."""
        return {
            "count": torch.tensor([self.count]),
            "mean": torch.from_numpy(self.mean),
            "root": torch.from_numpy(self.root()),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Moments:
        """The inverse of `to_tensors`."""
        moments = cls(tensors["mean"].numel())
        moments._add(int(tensors["count"]), tensors["mean"].numpy(), [tensors["root"].numpy()])
        return moments

    def _add(self, count: int, mean: FeatureArray, blocks: list[FeatureArray]) -> None:
        if not count:
            return
        total, shift = self.count + count, mean - self.mean
        if self.count:  # the sums of squares about the common mean have a row more
            blocks = [*blocks, np.sqrt(self.count * count / total) * shift[None]]
        self.mean = self.mean + shift * (count / total)
        self.count = total
        self._blocks += blocks
        if sum(map(len, self._blocks)) > STACKED * len(self.mean):
            self._triangulate()

    def _triangulate(self) -> None:
        """Make the root one block, of at most D rows."""
        if self._blocks:
            root = np.concatenate(self._blocks)
            if len(root) > len(self.mean):
                root = np.asarray(np.linalg.qr(root, mode="r"))
            self._blocks = [root]
