"""The real side of an evaluation, which every part of the images is compared with: known before, small, made once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import FeatureArray, Features
from tenth.evaluation.extractors.loading import INCEPTION, VIEWS
from tenth.evaluation.metrics.frechet import drop_missing_faces
from tenth.evaluation.metrics.recognition.groups import Attributes
from tenth.evaluation.reduce.neighbours import HeldOutBalls
from tenth.evaluation.reduce.person_sums import RealFaces

NO_THRESHOLD = -2.0  # below every cosine


@dataclass(frozen=True, eq=False)
class RealPhotos:
    """Features of real photos. faces: (M, D) of the held-out ones, with their people; references: of those given, or None.

    networks: (M, D) of the held-out ones by each network that was given. threshold: of the recognizer, or None. attributes: of
    people, for what is merged.
    """

    faces: Features
    references: Features | None
    networks: Mapping[str, FeatureArray]
    threshold: float | None
    attributes: Attributes | None = None

    @cached_property
    def people(self) -> RealFaces:
        """By person. Raises DataError as `by_person`."""
        return RealFaces.of(self.faces, self.references, self.threshold, self.attributes)

    @cached_property
    def with_face(self) -> FeatureArray:
        """(M, D) of held-out photos with a face."""
        return drop_missing_faces(self.faces).vectors

    @cached_property
    def balls(self) -> HeldOutBalls:
        """Around the held-out faces."""
        return HeldOutBalls(self.with_face)

    @cached_property
    def pooled(self) -> FeatureArray:
        """Inception's features (M, 2048) of held-out photos; none without it."""
        return VIEWS[INCEPTION].rows(self.networks[INCEPTION]) if INCEPTION in self.networks else np.zeros((0, 1))

    def to_tensors(self) -> dict[str, Tensor]:
        """Everything that sums of images depend on, by name."""
        tensors = {"threshold": torch.tensor([NO_THRESHOLD if self.threshold is None else self.threshold]).double()}
        tensors |= {f"networks.{name}": torch.from_numpy(rows.copy()) for name, rows in self.networks.items()}
        for name, side in (("faces", self.faces), ("references", self.references)):
            if side is not None:
                people = np.frombuffer(json.dumps(side.people).encode(), np.uint8).copy()
                tensors |= {name: torch.from_numpy(side.vectors.copy()), f"{name}.people": torch.from_numpy(people)}
        return tensors

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> RealPhotos:
        """The inverse of `to_tensors`, without attributes."""
        sides = {
            name: Features(tensors[name].numpy(), tuple(json.loads(tensors[f"{name}.people"].numpy().tobytes())))
            for name in ("faces", "references")
            if name in tensors
        }
        threshold, prefix = float(tensors["threshold"]), "networks."
        return cls(
            sides["faces"],
            sides.get("references"),
            {name.removeprefix(prefix): rows.numpy() for name, rows in tensors.items() if name.startswith(prefix)},
            None if threshold == NO_THRESHOLD else threshold,
        )
