"""Face quality of images that come in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import Features, Score
from tenth.evaluation.metrics.identity import score_over_people


class QualitySums:
    """people: person -> number of images with a face, and the sum of their quality. images: of how many it was asked."""

    def __init__(self) -> None:
        self.images = 0
        self.people: dict[str, tuple[float, float]] = {}

    def update(self, quality: Features) -> None:
        """Add images, (N, 1), NaN without a face, with their people."""
        self.images += len(quality.vectors)
        values, people = quality.vectors[:, 0], np.array(quality.people, dtype=object)
        for person in set(people[np.isfinite(values)]):
            of_person = values[np.isfinite(values) & (people == person)]
            self._add(person, len(of_person), float(of_person.sum()))

    def merge(self, other: QualitySums) -> None:
        """Add all that the other has."""
        self.images += other.images
        for person, (count, total) in other.people.items():
            self._add(person, count, total)

    def score(self) -> Score:
        """`face_quality` of all images."""
        return score_over_people({person: total / count for person, (count, total) in sorted(self.people.items())})

    def to_tensors(self) -> dict[str, Tensor]:
        """images (1,); names: JSON, UTF-8; sums (P, 2)."""
        names = np.frombuffer(json.dumps(list(self.people)).encode(), np.uint8).copy()
        sums = torch.tensor(list(self.people.values()), dtype=torch.float64).reshape(-1, 2)
        return {"images": torch.tensor([self.images]), "names": torch.from_numpy(names), "sums": sums}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> QualitySums:
        """The inverse of `to_tensors`."""
        quality = cls()
        quality.images = int(tensors["images"])
        names = json.loads(tensors["names"].numpy().tobytes())
        quality.people = {name: (count, total) for name, (count, total) in zip(names, tensors["sums"].tolist(), strict=True)}
        return quality

    def _add(self, person: str, count: float, total: float) -> None:
        before = self.people.get(person, (0.0, 0.0))
        self.people[person] = (before[0] + count, before[1] + total)
