"""What one part of the images says by itself, against the real photos: each metric's sums, side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import FeatureArray, Features
from tenth.evaluation.extractors.loading import DINOV2, FACE_QUALITY, INCEPTION, VIEWS
from tenth.evaluation.metrics.frechet import drop_missing_faces
from tenth.evaluation.reduce.kernel_sums import KernelSums
from tenth.evaluation.reduce.moments import Moments
from tenth.evaluation.reduce.neighbours import NeighbourCounts
from tenth.evaluation.reduce.person_sums import PersonSums
from tenth.evaluation.reduce.quality_sums import QualitySums
from tenth.evaluation.reduce.real_photos import RealPhotos

SUMS = ("people", "faces", "neighbours", "kernel", "quality")


class PartStatistics:
    """images: N of them. broken: by network, rows that are not finite. The rest are sums, which merge in any order.

    The pairs of two parts, the moments of Inception's and DINOv2's features, their projections and the classes are not among
    them: a part of fewer images than features has no smaller statistic for these than its rows.
    """

    def __init__(self, face_dim: int, photos_with_face: int) -> None:
        self.images, self.broken = 0, dict.fromkeys((INCEPTION, DINOV2), 0)
        self.people, self.faces, self.quality = PersonSums(), Moments(face_dim), QualitySums()
        self.neighbours, self.kernel = NeighbourCounts(photos_with_face), KernelSums()

    @classmethod
    def of(cls, faces: Features, networks: Mapping[str, FeatureArray], real: RealPhotos) -> PartStatistics:
        """Of images: faces (N, D), NaN without a face, with their people; networks: (N, D) by each that was given.

        Raises DataError as `by_person`.
        """
        part = cls(real.faces.vectors.shape[1], len(real.with_face))
        part.update(faces, networks, real)
        return part

    def update(self, faces: Features, networks: Mapping[str, FeatureArray], real: RealPhotos) -> None:
        """Add images, as `of` has them."""
        self.images += len(faces.vectors)
        self.people.update(faces, real.people)
        with_face = drop_missing_faces(faces).vectors
        self.faces.update(with_face)
        self.neighbours.update(with_face, real.balls)
        for name in set(self.broken) & set(networks):
            self.broken[name] += int((~np.isfinite(networks[name])).any(1).sum())
        if INCEPTION in networks:
            pooled = VIEWS[INCEPTION].rows(networks[INCEPTION])
            self.kernel.update(pooled[np.isfinite(pooled).all(1)], real.pooled)
        if FACE_QUALITY in networks:
            self.quality.update(Features(networks[FACE_QUALITY], faces.people))

    def merge(self, other: PartStatistics, *, with_people: bool = True) -> None:
        """Add all that the other has. with_people: False where people are merged elsewhere, one after the other."""
        self.images += other.images
        self.broken = {name: count + other.broken[name] for name, count in self.broken.items()}
        if with_people:
            self.people.merge(other.people)
        self.faces.merge(other.faces)
        self.neighbours.merge(other.neighbours)
        self.kernel.merge(other.kernel)
        self.quality.merge(other.quality)

    def to_tensors(self) -> dict[str, Tensor]:
        """images (3,), and the tensors of each of the sums behind its name and a dot."""
        tensors = {"images": torch.tensor([self.images, *self.broken.values()])}
        for name in SUMS:
            tensors |= {f"{name}.{key}": value for key, value in getattr(self, name).to_tensors().items()}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> PartStatistics:
        """The inverse of `to_tensors`."""
        part = cls(tensors["faces.mean"].numel(), tensors["neighbours.covered"].numel())
        part.images, *broken = tensors["images"].tolist()
        part.broken = dict(zip(part.broken, broken, strict=True))
        for name in SUMS:
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            setattr(part, name, type(getattr(part, name)).from_tensors(own))
        return part
