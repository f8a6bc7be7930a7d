"""Fidelity and variety apart: are generated images where photos are, and photos where generated images are.

A ball around each image of one side reaches to its k-th nearest neighbour of the same side; the four numbers count which
images of the other side lie in them. Squared distances are compared. They come from a product of matrices, so the same pair
can differ in the last bits from block to block: a slack far below any distance decides on the edge of a ball.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.inputs import validated_pair

BLOCK = 1024  # balls at a time
TOLERANCE = 1e-10  # of the mean squared length of a centred row; a product of doubles is off by less than 1e-12 of it


def precision(*, generated: Features, held_out: Features, references: Features | None = None, k: int = 3) -> Score:
    """Share of generated images in a ball around some held-out photo. Higher is better.

    generated, held_out: (N, D) and (M, D), M > k. No interval. Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2;
    equals torch-fidelity 0.4. Raises DataError if held_out has at most k images, or as `validated_pair` does.
    """
    del references
    a, b = validated_pair(generated, held_out, min_images=1)
    return Score(float(_fraction_inside(a, b, k, "held-out")), n=len(a))


def recall(*, generated: Features, held_out: Features, references: Features | None = None, k: int = 3) -> Score:
    """Share of held-out photos in a ball around some generated image, N > k: `precision` with the sides swapped.

    Higher is better; far outliers among the generated images raise it.
    """
    del references
    a, b = validated_pair(generated, held_out, min_images=1)
    return Score(float(_fraction_inside(b, a, k, "generated")), n=len(a))


def density(*, generated: Features, held_out: Features, references: Features | None = None, k: int = 5) -> Score:
    """Mean number of held-out balls, over k, that a generated image lies in. Higher is better, but above 1 images crowd.

    generated, held_out: (N, D) and (M, D), M > k. No interval. Source: Naeem et al. 2020, arXiv:2002.09797, section 3. Errors
    as for `precision`.
    """
    del references
    a, b = validated_pair(generated, held_out, min_images=1)
    balls = sum(int((squared < radius - slack).sum()) for squared, radius, slack in _balls(a, b, k))
    return Score(balls / (k * len(a)), n=len(a))


def coverage(*, generated: Features, held_out: Features, references: Features | None = None, k: int = 5) -> Score:
    """Share of held-out photos whose ball has a generated image in it. Higher is better; grows with N.

    Shapes, source and errors as for `density`.
    """
    del references
    a, b = validated_pair(generated, held_out, min_images=1)
    covered = sum(int((squared < radius - slack).any(1).sum()) for squared, radius, slack in _balls(a, b, k))
    return Score(covered / len(b), n=len(a))


def _fraction_inside(points: FeatureArray, centers: FeatureArray, k: int, name: str) -> float:
    """Share of points (N, D) in a closed ball around some centre (M, D)."""
    inside = np.zeros(len(points), bool)
    for squared, radius, tolerance in _balls(points, centers, k, name):
        inside |= (squared <= radius + tolerance).any(0)
    return float(inside.mean())


def _balls(
    points: FeatureArray, centers: FeatureArray, k: int, name: str = "held-out"
) -> Iterator[tuple[FeatureArray, FeatureArray, float]]:
    """Blocks of B balls: squared distances of their centres to all points (B, N), squared radii (B, 1), the slack."""
    if not 0 < k < len(centers):
        raise DataError(f"{len(centers)} {name} images and k = {k}", "k from 1 to below their number is needed", "Add images")
    mean = centers.mean(0)  # lengths, and with them rounding errors, are least around it
    points, centers = points - mean, centers - mean
    tolerance = TOLERANCE * float(np.square(centers).sum(1).mean())
    for start in range(0, len(centers), BLOCK):
        block = centers[start : start + BLOCK]  # (B, D)
        center_distances = _squared_distances(block, centers)  # (B, M), each centre's distance to itself among them
        radius = np.partition(center_distances, k)[:, k, None]  # (B, 1)
        yield _squared_distances(block, points), radius, tolerance


def _squared_distances(a: FeatureArray, b: FeatureArray) -> FeatureArray:
    squared: FeatureArray = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)  # (N, M)
    return squared
