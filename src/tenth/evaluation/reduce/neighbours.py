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
from tenth.evaluation.metrics.inputs import available
from tenth.evaluation.metrics.precision_recall import Balls, fit_balls, require_neighbours, squared_distances

PRECISION_K, DENSITY_K = 3, 5  # neighbours, the defaults of the metrics


class HeldOutBalls:
    """The balls of held-out photos (M, D), of precision and of density and coverage; made once. None for too few photos."""

    def __init__(self, rows: FeatureArray) -> None:
        self.precision = fit_balls(rows, PRECISION_K) if len(rows) > PRECISION_K else None
        self.density = fit_balls(rows, DENSITY_K) if len(rows) > DENSITY_K else None


class NeighbourCounts:
    """images: N. inside: those in a held-out ball. balls: how many of them they lie in. covered: (M,), balls with one in it."""

    def __init__(self, photos: int) -> None:
        self.images = self.inside = self.balls = 0
        self.covered = np.zeros(photos, bool)

    def update(self, rows: FeatureArray, held_out: HeldOutBalls) -> None:
        """Add rows (N, D)."""
        self.images += len(rows)
        if held_out.precision is not None:
            inside = np.zeros(len(rows), bool)
            for squared, radius in held_out.precision.around(rows, closed=True):
                inside |= (squared <= radius).any(0)
            self.inside += int(inside.sum())
        if held_out.density is not None:
            covered = []
            for squared, radius in held_out.density.around(rows):
                within = squared < radius
                self.balls += int(within.sum())
                covered.append(within.any(1))
            self.covered |= np.concatenate(covered)

    def merge(self, other: NeighbourCounts) -> None:
        """Add all that the other has."""
        self.images, self.inside, self.balls = (
            self.images + other.images,
            self.inside + other.inside,
            self.balls + other.balls,
        )
        self.covered = self.covered | other.covered

    def scores(self) -> dict[str, Score]:
        """`precision`, `density` and `coverage` of all images, one at least; unavailable for too few photos."""

        def scored(value: float, k: int) -> Score:
            require_neighbours(len(self.covered), k, "held-out")
            return Score(value, n=self.images)

        return {
            "precision": available(lambda: scored(self.inside / self.images, PRECISION_K)),
            "density": available(lambda: scored(self.balls / (DENSITY_K * self.images), DENSITY_K)),
            "coverage": available(lambda: scored(float(self.covered.mean()), DENSITY_K)),
        }

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
    nearest, farthest = np.full((len(rows), k + 1), np.inf), np.full(len(rows), np.inf)
    for part in parts:
        squared = squared_distances(rows, part)
        nearer = np.flatnonzero(squared.min(1, initial=np.inf) < farthest)  # soon few rows have a new neighbour
        candidates = np.concatenate([nearest[nearer], squared[nearer]], 1)
        nearest[nearer] = np.partition(candidates, k, axis=1)[:, : k + 1]
        farthest[nearer] = nearest[nearer].max(1)
    return farthest


def found_photos(balls: Balls, held_out: FeatureArray) -> npt.NDArray[np.bool_]:
    """Which held-out photos (M, D) lie in a ball around a generated image: (M,). Parts are merged by `or`."""
    found = np.zeros(len(held_out), bool)
    for squared, radius in balls.around(held_out, closed=True):
        found |= (squared <= radius).any(0)
    return found
