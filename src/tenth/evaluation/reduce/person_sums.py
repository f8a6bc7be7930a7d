"""Sums over each person's images, from which the identity metrics follow, also where the images come in parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features
from tenth.evaluation.metrics.identity import by_person, copy_paste_indices, require_distinct, rows_with_face


@dataclass(frozen=True, eq=False)
class RealFaces:
    """What generated faces are compared with: unit rows of each person, (K, D), NaN without a face.

    references: None where none are given. threshold: of the recognizer, None where none is stated.
    """

    held_out: Mapping[str, FeatureArray]
    references: Mapping[str, FeatureArray] | None = None
    threshold: float | None = None

    @classmethod
    def of(cls, held_out: Features, references: Features | None, threshold: float | None) -> RealFaces:
        """Of features (N, D) and their people. Raises DataError as `by_person`."""
        return cls(by_person(held_out), by_person(references) if references is not None else None, threshold)

    @cached_property
    def centroids(self) -> dict[str, FeatureArray]:
        """Person -> mean of the held-out rows, (D,). Raises DataError for a person without a face among them."""
        return {person: rows_with_face(self.held_out, person, "held-out").mean(0) for person in self.held_out}

    @cached_property
    def total(self) -> FeatureArray:
        """The sum of all people's centroids, (D,)."""
        return np.asarray(np.sum(list(self.centroids.values()), axis=0))


@dataclass(eq=False)
class PersonSum:
    """Over N images of one person: images, N; faces, those with a face; row_sum: (D,), of their unit rows.

    accepted: pairs with a held-out photo that the recognizer accepts. copying: the sum of their copy-paste indices.
    A sum that could not be made, for the lack of a real face, is NaN.
    """

    images: float
    faces: float
    row_sum: FeatureArray
    accepted: float
    copying: float

    def merge(self, other: PersonSum) -> PersonSum:
        """Both together."""
        return PersonSum(
            self.images + other.images,
            self.faces + other.faces,
            self.row_sum + other.row_sum,
            self.accepted + other.accepted,
            self.copying + other.copying,
        )


class PersonSums:
    """people: person -> sums of that person's images."""

    def __init__(self) -> None:
        self.people: dict[str, PersonSum] = {}

    def update(self, generated: Features, real: RealFaces) -> None:
        """Add images, (N, D), NaN without a face. Raises DataError as `by_person`."""
        for person, rows in by_person(generated).items() if len(generated.vectors) else ():
            faces = rows[~np.isnan(rows[:, 0])]
            accepted = copying = np.nan
            with suppress(DataError):  # said once, when the person is complete
                held = rows_with_face(real.held_out, person, "held-out")
                if real.threshold is not None:
                    accepted = float((faces @ held.T >= real.threshold).sum())
                if real.references is not None:
                    given = rows_with_face(real.references, person, "reference")
                    require_distinct(held, given, person)
                    copying = float(copy_paste_indices(faces, held, given).sum())
            self.add(person, PersonSum(len(rows), len(faces), faces.sum(0), accepted, copying))

    def merge(self, other: PersonSums) -> None:
        """Add all that the other has."""
        for person, sums in other.people.items():
            self.add(person, sums)

    def add(self, person: str, sums: PersonSum) -> None:
        """Add sums of more images of a person."""
        known = self.people.get(person)
        self.people[person] = sums if known is None else known.merge(sums)

    def to_tensors(self) -> dict[str, Tensor]:
        """names: JSON, UTF-8; counts (P, 4); row_sums (P, D)."""
        counts = [[each.images, each.faces, each.accepted, each.copying] for each in self.people.values()]
        row_sums = np.stack([each.row_sum for each in self.people.values()]) if self.people else np.zeros((0, 0))
        names = np.frombuffer(json.dumps(list(self.people)).encode(), np.uint8).copy()
        return {
            "names": torch.from_numpy(names),
            "counts": torch.tensor(counts, dtype=torch.float64).reshape(-1, 4),
            "row_sums": torch.from_numpy(row_sums),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> PersonSums:
        """The inverse of `to_tensors`."""
        sums = cls()
        names = json.loads(tensors["names"].numpy().tobytes())
        for name, counts, row_sum in zip(names, tensors["counts"].tolist(), tensors["row_sums"].numpy(), strict=True):
            sums.people[name] = PersonSum(counts[0], counts[1], row_sum, counts[2], counts[3])
        return sums
