"""Fréchet Inception Distance (FID), exactly and without a matrix square root, and its limit for infinitely many images.

With centered features X (N, D) and Y (M, D), covariances A = X'X / (N - 1) and B = Y'Y / (M - 1): the non-zero eigenvalues
of AB are the squared singular values of XY' over (N - 1)(M - 1), so that tr (AB)^(1/2) is the nuclear norm of XY' over
sqrt((N - 1)(M - 1)). It avoids roots of rounding errors, which `sqrtm` of AB takes where N < D.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.inputs import validated_pair

NUM_SUBSETS = 15  # sizes of subsets, as Chong and Forsyth take them


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian fitted to N features. mean: (D,). cov_root: R (K, D), K = min(N, D); R'R is the covariance."""

    mean: FeatureArray
    cov_root: FeatureArray


def fid(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Squared Fréchet distance between two Gaussians fitted to Inception features. Lower is better.

    generated, held_out: (N, 2048) and (M, 2048), N, M >= 2. Compare only at equal counts and the same held-out photos. No
    interval: resampling images with replacement shifts the value itself. Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6;
    equals torch-fidelity 0.4 to 1e-6. Raises DataError for fewer images, a row that is not finite or another width.
    """
    del references
    return Score(frechet_distance(generated.vectors, held_out.vectors), n=len(generated.vectors))


def fid_infinity(
    *, generated: Features, held_out: Features, references: Features | None = None, min_subset: int | None = None, seed: int = 0
) -> Score:
    """FID of endlessly many generated images, from a line through FID against 1/n. Lower is better; may be below 0.

    Generated images alone are subsampled: 15 sizes, evenly from `min_subset` (None: half of the images) to all of them, each
    drawn anew without replacement. No interval. Source: Chong and Forsyth 2020, arXiv:1911.07023, section 4. Raises DataError
    as `fid` does, for fewer than four generated images, or if `min_subset` is not from 2 to below that.
    """
    del references
    a, b = validated_pair(generated, held_out)
    held_out_gaussian, sizes, distances = fit_gaussian(b), list[int](), list[float]()
    for indices in random_subsets(len(a), min_subset=min_subset, seed=seed):
        sizes.append(len(indices))
        distances.append(gaussian_distance(fit_gaussian(a[indices]), held_out_gaussian))
    return Score(extrapolate_distance(sizes, distances), n=len(a))


def fd_dinov2(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Squared Fréchet distance between two Gaussians fitted to DINOv2's features. Lower is better.

    generated, held_out: (N, D) and (M, D), N, M >= 2, of ViT-L/14 1024 wide. Compare as `fid`. No interval. Source: Stein et
    al. 2023, arXiv:2306.04675, with the formula of Heusel et al. 2017, eq. 6. Raises DataError as `fid` does.
    """
    del references
    return Score(frechet_distance(generated.vectors, held_out.vectors), n=len(generated.vectors))


def random_subsets(count: int, *, min_subset: int | None = None, seed: int = 0) -> Iterator[npt.NDArray[np.int64]]:
    """The subsets of `fid_infinity`, smallest first: indices of images, of so many. Raises DataError as it does."""
    rng = np.random.default_rng(seed)
    for size in subset_sizes(count, min_subset):
        yield rng.permutation(count)[:size]


def subset_sizes(count: int, min_subset: int | None = None) -> list[int]:
    """Their sizes: at most NUM_SUBSETS."""
    min_subset = count // 2 if min_subset is None else min_subset
    if not 2 <= min_subset < count:
        found = f"{count} generated images and subsets from {min_subset}"
        raise DataError(found, "two sizes of 2 or more are needed", "Add images, or lower `min_subset`")
    sizes: list[int] = np.unique(np.linspace(min_subset, count, NUM_SUBSETS).round().astype(int)).tolist()
    return sizes


def extrapolate_distance(sizes: Sequence[int], distances: Sequence[float]) -> float:
    """The distance of endlessly many images: where the line through the distances against 1/size meets 0."""
    _, intercept = np.polyfit(1 / np.asarray(sizes), distances, 1)
    return float(intercept)


def frechet_distance(a: FeatureArray, b: FeatureArray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to any features, (N, D) and (M, D), N, M >= 2. Lower is nearer.

    Covariances over N - 1. Source: Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X. Raises DataError as `fid` does.
    """
    generated, held_out = validated_pair(Features(a, ()), Features(b, ()))
    return gaussian_distance(fit_gaussian(generated), fit_gaussian(held_out))


def fit_gaussian(rows: FeatureArray) -> Gaussian:
    """The Gaussian of rows (N, D), N >= 2."""
    mean = rows.mean(0)
    cov_root = (rows - mean) / np.sqrt(len(rows) - 1)  # (N, D)
    if len(cov_root) > cov_root.shape[1]:
        cov_root = np.linalg.qr(cov_root, mode="r")  # (D, D), of the same covariance
    return Gaussian(mean, cov_root)


def gaussian_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance of two Gaussians of the same width."""
    overlap = np.linalg.svd(a.cov_root @ b.cov_root.T, compute_uv=False).sum()  # tr (AB)^(1/2)
    spread = np.square(a.cov_root).sum() + np.square(b.cov_root).sum() - 2 * overlap
    return float(np.square(a.mean - b.mean).sum() + max(spread, 0.0))  # equal sides leave a rounding error of either sign


def face_frechet_distance(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Squared Fréchet distance between two Gaussians fitted to a face recognizer's features. Lower is better.

    generated, held_out: (N, D) and (M, D), two with a face on each side; images without are left out. Compare only at equal
    counts and the same held-out photos: it depends more on who is in them than on a method. No interval.
    Source: Heusel et al. 2017, eq. 6, on other features. Raises DataError if a side has fewer faces than two.
    """
    del references
    a, b = validated_pair(drop_missing_faces(generated), drop_missing_faces(held_out))
    return Score(frechet_distance(a, b), n=len(a))


def drop_missing_faces(features: Features) -> Features:
    """Only the images in which a face was found: those whose features are not NaN."""
    indices = np.flatnonzero(~np.isnan(features.vectors).any(1))
    people = tuple(features.people[index] for index in indices)
    prompts = tuple(features.prompts[index] for index in indices) if features.prompts else ()
    return Features(features.vectors[indices], people, prompts)
