"""Sums over each person's images, from which the identity metrics follow, also where the images come in parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features
from tenth.evaluation.metrics.identity import by_person, copy_paste_indices, require_distinct, rows_with_face
from tenth.evaluation.metrics.recognition.groups import Attributes
from tenth.evaluation.metrics.recognition.identification import RANK_METRICS, Gallery
from tenth.evaluation.metrics.recognition.verification import FALSE_ACCEPT_RATES, LEVELS, ImpostorPairs, real_faces

Made = TypeVar("Made")
STACKED = ("row_sums", "ranks", "passing")  # tensors with a row for each person, beside the counts


@dataclass(frozen=True, eq=False)
class RealFaces:
    """What generated faces are compared with: unit rows of each person, (K, D), NaN without a face.

    references: None where none are given. threshold: of the recognizer, None where none is stated. attributes: person ->
    attribute -> whether the person has it, None where none are given.
    """

    held_out: Mapping[str, FeatureArray]
    references: Mapping[str, FeatureArray] | None = None
    threshold: float | None = None
    attributes: Attributes | None = None

    @classmethod
    def of(
        cls,
        held_out: Features,
        references: Features | None,
        threshold: float | None,
        attributes: Attributes | None = None,
    ) -> RealFaces:
        """Of features (N, D) and their people. Raises DataError as `by_person`."""
        given = by_person(references) if references is not None else None
        return cls(by_person(held_out), given, threshold, attributes)

    @cached_property
    def centroids(self) -> dict[str, FeatureArray]:
        """Person -> mean of the held-out rows, (D,). Raises DataError for a person without a face among them."""
        return {person: rows_with_face(self.held_out, person, "held-out").mean(0) for person in self.held_out}

    @cached_property
    def total(self) -> FeatureArray:
        """The sum of all people's centroids, (D,)."""
        return np.asarray(np.sum(list(self.centroids.values()), axis=0))

    @cached_property
    def gallery(self) -> Gallery | DataError:
        """Everybody's template, or why there is none."""
        return _made_or_problem(lambda: Gallery.of(self.held_out))

    @cached_property
    def impostor_pairs(self) -> dict[str, ImpostorPairs | DataError]:
        """Metric -> pairs of real photos down to its false-accept rate, or why there are none."""
        real = real_faces(self.held_out, self.references)

        def of(rate: float) -> ImpostorPairs | DataError:
            return _made_or_problem(lambda: ImpostorPairs.of(real, rate))

        return {name: of(rate) for name, rate in FALSE_ACCEPT_RATES.items()}


def _made_or_problem(make: Callable[[], Made]) -> Made | DataError:
    try:
        return make()
    except DataError as problem:
        return problem


@dataclass(eq=False)
class PersonSum:
    """Over N images of one person: images, N; faces, those with a face; row_sum: (D,), of their unit rows.

    accepted: pairs with a held-out photo that the recognizer accepts. copying: the sum of their copy-paste indices.
    ranks: (4,), sums of RANK_METRICS. passing: (F, L), pairs above the thresholds of each false-accept rate and level. A sum
    that could not be made, for the lack of real faces, is NaN.
    """

    images: float
    faces: float
    row_sum: FeatureArray
    accepted: float
    copying: float
    ranks: FeatureArray
    passing: FeatureArray

    def merge(self, other: PersonSum) -> PersonSum:
        """Both together."""
        return PersonSum(
            self.images + other.images,
            self.faces + other.faces,
            self.row_sum + other.row_sum,
            self.accepted + other.accepted,
            self.copying + other.copying,
            self.ranks + other.ranks,
            self.passing + other.passing,
        )


class PersonSums:
    """people: person -> sums of that person's images."""

    def __init__(self) -> None:
        self.people: dict[str, PersonSum] = {}

    def update(self, generated: Features, real: RealFaces) -> None:
        """Add images, (N, D), NaN without a face. Raises DataError as `by_person`."""
        for person, rows in by_person(generated).items() if len(generated.vectors) else ():
            self.add(person, _person_sum(person, rows, real))

    def merge(self, other: PersonSums) -> None:
        """Add all that the other has."""
        for person, sums in other.people.items():
            self.add(person, sums)

    def add(self, person: str, sums: PersonSum) -> None:
        """Add sums of more images of a person."""
        known = self.people.get(person)
        self.people[person] = sums if known is None else known.merge(sums)

    def to_tensors(self) -> dict[str, Tensor]:
        """names: JSON, UTF-8; counts (P, 4); row_sums (P, D); ranks (P, 4); passing (P, F, L)."""
        people = list(self.people.values())
        counts = [[each.images, each.faces, each.accepted, each.copying] for each in people]
        names = np.frombuffer(json.dumps(list(self.people)).encode(), np.uint8).copy()
        columns = zip(*((each.row_sum, each.ranks, each.passing) for each in people), strict=True) if people else [()] * 3
        stacked = {key: np.stack(rows) if rows else np.zeros((0, 0)) for key, rows in zip(STACKED, columns, strict=True)}
        return {
            "names": torch.from_numpy(names),
            "counts": torch.tensor(counts, dtype=torch.float64).reshape(-1, 4),
            **{name: torch.from_numpy(rows) for name, rows in stacked.items()},
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> PersonSums:
        """The inverse of `to_tensors`."""
        sums = cls()
        names, stacked = json.loads(tensors["names"].numpy().tobytes()), (tensors[key].numpy() for key in STACKED)
        for name, counts, row_sum, ranks, passing in zip(names, tensors["counts"].tolist(), *stacked, strict=True):
            images, faces, accepted, copying = counts
            sums.people[name] = PersonSum(images, faces, row_sum, accepted, copying, ranks, passing)
        return sums


def _person_sum(person: str, rows: FeatureArray, real: RealFaces) -> PersonSum:
    """Of unit rows (N, D) of one person, NaN without a face. What is lacking is said once, when the person is complete."""
    faces = rows[~np.isnan(rows[:, 0])]
    sums = PersonSum(
        images=len(rows),
        faces=len(faces),
        row_sum=faces.sum(0),
        accepted=np.nan,
        copying=np.nan,
        ranks=np.full(len(RANK_METRICS), np.nan),
        passing=np.full((len(FALSE_ACCEPT_RATES), len(LEVELS)), np.nan),
    )
    with suppress(DataError):
        held = rows_with_face(real.held_out, person, "held-out")

        # Against everybody's real photos.
        if isinstance(real.gallery, Gallery):
            sums.ranks = real.gallery.rank_sums(person, rows)
        for index, pairs in enumerate(real.impostor_pairs.values()):
            if isinstance(pairs, ImpostorPairs):
                sums.passing[index] = pairs.accepted(faces, held)

        # Against the person's own.
        if real.threshold is not None:
            sums.accepted = float((faces @ held.T >= real.threshold).sum())
        if real.references is not None:
            given = rows_with_face(real.references, person, "reference")
            require_distinct(held, given, person)
            sums.copying = float(copy_paste_indices(faces, held, given).sum())
    return sums
