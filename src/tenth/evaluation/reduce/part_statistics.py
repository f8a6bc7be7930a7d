"""What one part of the images says by itself, against the real photos: each metric's sums, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import FeatureArray, Features
from tenth.evaluation.extractors.inception import features_of
from tenth.evaluation.metrics.frechet import drop_missing_faces
from tenth.evaluation.reduce.kernel_sums import KernelSums
from tenth.evaluation.reduce.moments import Moments
from tenth.evaluation.reduce.neighbours import NeighbourCounts
from tenth.evaluation.reduce.person_sums import PersonSums
from tenth.evaluation.reduce.real_photos import RealPhotos


class PartStatistics:
    """images: N of them. broken: rows of Inception's that are not finite. The rest are sums, which merge in any order.

    The pairs of two parts, the moments of Inception's features and its classes are not among them: a part of fewer images
    than features has no smaller statistic for these than its rows.
    """

    def __init__(self, face_dim: int, photos_with_face: int) -> None:
        self.images = self.broken = 0
        self.people, self.faces = PersonSums(), Moments(face_dim)
        self.neighbours, self.kernel = NeighbourCounts(photos_with_face), KernelSums()

    @classmethod
    def of(cls, faces: Features, network: FeatureArray | None, real: RealPhotos) -> PartStatistics:
        """Of images: faces (N, D), NaN without a face, with their people; network: (N, 3056) of Inception, or None.

        Raises DataError as `by_person`.
        """
        part = cls(real.faces.vectors.shape[1], len(real.with_face))
        part.update(faces, network, real)
        return part

    def update(self, faces: Features, network: FeatureArray | None, real: RealPhotos) -> None:
        """Add images, as `of` has them."""
        self.images += len(faces.vectors)
        self.people.update(faces, real.people)
        with_face = drop_missing_faces(faces).vectors
        self.faces.update(with_face)
        self.neighbours.update(with_face, real.balls)
        if network is not None:
            pooled = features_of(network)
            self.broken += int((~np.isfinite(network)).any(1).sum())
            self.kernel.update(pooled[np.isfinite(pooled).all(1)], real.pooled)

    def merge(self, other: PartStatistics, *, with_people: bool = True) -> None:
        """Add all that the other has. with_people: False where people are merged elsewhere, one after the other."""
        self.images, self.broken = self.images + other.images, self.broken + other.broken
        if with_people:
            self.people.merge(other.people)
        self.faces.merge(other.faces)
        self.neighbours.merge(other.neighbours)
        self.kernel.merge(other.kernel)

    def to_tensors(self) -> dict[str, Tensor]:
        """images (2,), and the tensors of each of the sums behind its name and a dot."""
        tensors = {"images": torch.tensor([self.images, self.broken])}
        for name in ("people", "faces", "neighbours", "kernel"):
            tensors |= {f"{name}.{key}": value for key, value in getattr(self, name).to_tensors().items()}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> PartStatistics:
        """The inverse of `to_tensors`."""
        part = cls(tensors["faces.mean"].numel(), tensors["neighbours.covered"].numel())
        part.images, part.broken = tensors["images"].tolist()
        for name in ("people", "faces", "neighbours", "kernel"):
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            setattr(part, name, type(getattr(part, name)).from_tensors(own))
        return part
