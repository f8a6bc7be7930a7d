"""Precision, recall, density and coverage of rows that come in parts.

Against the balls of held-out photos, a part counts by itself. Recall has a ball around each generated image, which reaches to
its k-th neighbour among all parts: `nearest_distances` is taken over all of them before a part can count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tenth.core.types import FeatureArray, Score
from tenth.evaluation.metrics.precision_recall import Balls, fit_balls, squared_distances

PRECISION_K, DENSITY_K = 3, 5  # neighbours, the defaults of the metrics


class HeldOutBalls:
    """The balls of held-out photos (M, D), of precision and of density and coverage; made once. Raises as `fit_balls`."""

    def __init__(self, rows: FeatureArray) -> None:
        self.precision, self.density = fit_balls(rows, PRECISION_K), fit_balls(rows, DENSITY_K)


class NeighbourCounts:
    """images: N. inside: those in a held-out ball. balls: how many of them they lie in. covered: (M,), balls with one in it."""

    def __init__(self, photos: int) -> None:
        self.images = self.inside = self.balls = 0
        self.covered = np.zeros(photos, bool)

    def update(self, rows: FeatureArray, held_out: HeldOutBalls) -> None:
        """Add rows (N, D)."""
        inside = np.zeros(len(rows), bool)
        for squared, radius in held_out.precision.around(rows, closed=True):
            inside |= (squared <= radius).any(0)
        covered = []
        for squared, radius in held_out.density.around(rows):
            within = squared < radius
            self.balls += int(within.sum())
            covered.append(within.any(1))
        self.covered |= np.concatenate(covered)
        self.images, self.inside = self.images + len(rows), self.inside + int(inside.sum())

    def merge(self, other: NeighbourCounts) -> None:
        """Add all that the other has."""
        self.images, self.inside, self.balls = (
            self.images + other.images,
            self.inside + other.inside,
            self.balls + other.balls,
        )
        self.covered = self.covered | other.covered

    def scores(self) -> dict[str, Score]:
        """`precision`, `density` and `coverage` of all images, one at least."""
        values = {
            "precision": self.inside / self.images,
            "density": self.balls / (DENSITY_K * self.images),
            "coverage": float(self.covered.mean()),
        }
        return {name: Score(value, n=self.images) for name, value in values.items()}

    def to_tensors(self) -> dict[str, Tensor]:
        """counts (3,) int64, covered (M,) bool."""
        counts = torch.tensor([self.images, self.inside, self.balls])
        return {"counts": counts, "covered": torch.from_numpy(self.covered)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> NeighbourCounts:
        """The inverse of `to_tensors`."""
        counts = cls(tensors["covered"].numel())
        counts.images, counts.inside, counts.balls = tensors["counts"].tolist()
        counts.covered = tensors["covered"].numpy().copy()
        return counts


def nearest_distances(rows: FeatureArray, parts: Iterable[FeatureArray], k: int = PRECISION_K) -> FeatureArray:
    """Squared distance of each row (N, D) to its k-th neighbour among all rows of the parts (., D), itself among them: (N,)."""
    nearest = np.full((len(rows), k + 1), np.inf)
    for part in parts:
        candidates = np.concatenate([nearest, squared_distances(rows, part)], 1)
        nearest = np.partition(candidates, k, axis=1)[:, : k + 1]
    farthest: FeatureArray = nearest.max(1)
    return farthest


def found_photos(balls: Balls, held_out: FeatureArray) -> npt.NDArray[np.bool_]:
    """Which held-out photos (M, D) lie in a ball around a generated image: (M,). Parts are merged by `or`."""
    found = np.zeros(len(held_out), bool)
    for squared, radius in balls.around(held_out, closed=True):
        found |= (squared <= radius).any(0)
    return found
