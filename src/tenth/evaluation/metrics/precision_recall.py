"""Fidelity and variety apart: are generated images where photos are, and photos where generated images are.

A ball around each image of one side reaches to its k-th nearest neighbour of the same side; the four numbers count which
images of the other side lie in them. Squared distances are compared. They come from a product of matrices, so the same pair
can differ in the last bits from block to block: a slack far below any distance decides on the edge of a ball.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    balls = sum(int((squared < radius).sum()) for squared, radius in fit_balls(b, k).around(a))
    return Score(balls / (k * len(a)), n=len(a))


def coverage(*, generated: Features, held_out: Features, references: Features | None = None, k: int = 5) -> Score:
    """Share of held-out photos whose ball has a generated image in it. Higher is better; grows with N.

    Shapes, source and errors as for `density`.
    """
    del references
    a, b = validated_pair(generated, held_out, min_images=1)
    covered = sum(int((squared < radius).any(1).sum()) for squared, radius in fit_balls(b, k).around(a))
    return Score(covered / len(b), n=len(a))


def _fraction_inside(points: FeatureArray, centers: FeatureArray, k: int, name: str) -> float:
    """Share of points (N, D) in a closed ball around some centre (M, D)."""
    inside = np.zeros(len(points), bool)
    for squared, radius in fit_balls(centers, k, name).around(points, closed=True):
        inside |= (squared <= radius).any(0)
    return float(inside.mean())


@dataclass(frozen=True, eq=False)
class Balls:
    """A ball around each of M rows. mean: (D,), of the rows. centers: (M, D), without the mean. squared_radii: (M,).

    slack: of squared distances, within which they count as equal.
    """

    mean: FeatureArray
    centers: FeatureArray
    squared_radii: FeatureArray
    slack: float

    def around(self, points: FeatureArray, *, closed: bool = False) -> Iterator[tuple[FeatureArray, FeatureArray]]:
        """Blocks of B balls: squared distances of their centres to all points (B, N), and squared radii (B, 1).

        Those are below the radii by the slack for open balls, above them for closed ones.
        """
        shifted, radii = points - self.mean, self.squared_radii + (self.slack if closed else -self.slack)
        for start in range(0, len(self.centers), BLOCK):
            block = slice(start, start + BLOCK)
            yield squared_distances(self.centers[block], shifted), radii[block, None]


def fit_balls(rows: FeatureArray, k: int, name: str = "held-out") -> Balls:
    """The ball around each row (M, D) that reaches to its k-th neighbour. name: what a message calls the rows.

    Raises DataError unless k is from 1 to below M.
    """
    require_neighbours(len(rows), k, name)
    mean = rows.mean(0)  # lengths, and with them rounding errors, are least around it
    centers, radii = rows - mean, list[FeatureArray]()
    for start in range(0, len(centers), BLOCK):
        squared = squared_distances(centers[start : start + BLOCK], centers)  # (B, M), to itself among them
        radii.append(np.partition(squared, k)[:, k].copy())  # without the block that it is a column of
    return Balls(mean, centers, np.concatenate(radii), slack_of(np.square(centers).sum(), len(rows)))


def require_neighbours(count: int, k: int, name: str) -> None:
    """Raises DataError unless k is from 1 to below the number of images."""
    if not 0 < k < count:
        raise DataError(f"{count} {name} images and k = {k}", "k from 1 to below their number is needed", "Add images")


def slack_of(squared_lengths: float, count: int) -> float:
    """The slack of squared distances around so many rows. squared_lengths: their sum, of rows without their mean."""
    return TOLERANCE * float(squared_lengths) / count


def squared_distances(a: FeatureArray, b: FeatureArray) -> FeatureArray:
    """(N, M), of rows (N, D) and (M, D)."""
    squared: FeatureArray = np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * (a @ b.T)  # (N, M)
    return squared
