"""Identification: at which rank the right person comes when an image is compared with everybody's held-out photos.

Everybody is one template, the unit mean of the held-out photos' unit rows, as of IJB-B (Whitelam et al. 2017,
doi:10.1109/CVPRW.2017.87); an image ranks people by its cosine to their templates. An image without a face has no rank: it
counts 0. All ranks depend on who and how many the people are: compare only on the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.core.wording import pluralize
from tenth.evaluation.metrics.identity import by_person, rows_with_face, score_of_shares

NUM_LOOKALIKES = 10  # impostors nearest to a person: as hard for sets of any size
MAX_GALLERY = 20_000  # people: each image is compared with all of them
TIE = 1e-9  # cosines nearer than this are equal: products in another order differ in the last bits
RANK_METRICS = ("mean-reciprocal-rank", "rank-1-rate", "lookalike-reciprocal-rank", "lookalike-rank-1-rate")


def mean_reciprocal_rank(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean of 1 / rank of the right person among all people of `held_out`, over people. Higher is better.

    generated, held_out: (N, D), rows of any length. 1 where the right person is always first; among P people who are equally
    near, 2 / (P + 1). Source: Voorhees 1999, TREC-8. Raises DataError for fewer than two people, or one without a face.
    """
    del references
    return _score(generated, held_out, 0)


def rank_one_rate(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Share of images whose nearest person of `held_out` is the right one, ties shared, over people. Higher is better.

    The first point of the cumulative match curve; 1 / P by chance. Source: Phillips et al. 2000, doi:10.1109/34.879790, of a
    closed set. Raises DataError as `mean_reciprocal_rank` does.
    """
    del references
    return _score(generated, held_out, 1)


def lookalike_reciprocal_rank(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """`mean_reciprocal_rank` among the right person and the ten people whose templates are nearest to that person's.

    Raises DataError also for fewer than eleven people.
    """
    del references
    return _score(generated, held_out, 2)


def lookalike_rank_one_rate(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """`rank_one_rate` among the right person and the ten people whose templates are nearest to that person's.

    Never below `rank_one_rate`, 1 / 11 by chance. Raises DataError also for fewer than eleven people.
    """
    del references
    return _score(generated, held_out, 3)


@dataclass(frozen=True, eq=False)
class Gallery:
    """Everybody with held-out photos: people, P, sorted, and their templates (P, D)."""

    people: tuple[str, ...]
    templates: FeatureArray

    @classmethod
    def of(cls, held_out: Mapping[str, FeatureArray]) -> Gallery:
        """Of unit rows by person. Raises DataError for fewer than two people, too many, or one without a face."""
        if not 2 <= len(held_out) <= MAX_GALLERY:
            found, action = pluralize(len(held_out), "person"), "Read the other figures, or change the people"
            raise DataError(found, f"a rank is among 2 to {MAX_GALLERY:,} people", action)
        means = np.stack([rows_with_face(held_out, person, "held-out").mean(0) for person in held_out])  # (P, D)
        return cls(tuple(held_out), means / np.linalg.norm(means, axis=1, keepdims=True))

    @cached_property
    def index(self) -> dict[str, int]:
        """Where each person's template is."""
        return {person: index for index, person in enumerate(self.people)}

    @cached_property
    def lookalikes(self) -> npt.NDArray[np.int64]:
        """The ten nearest other people of each, (P, 10). Raises DataError for fewer than eleven people."""
        if len(self.people) <= NUM_LOOKALIKES:
            found, needed = (
                pluralize(len(self.people) - 1, "other person", "other people"),
                f"the {NUM_LOOKALIKES} nearest are needed",
            )
            raise DataError(found, needed, "Add people, or read the ranks among all of them")
        nearest = np.empty((len(self.people), NUM_LOOKALIKES), np.int64)
        for index, template in enumerate(self.templates):
            cosines = self.templates @ template  # (P,)
            cosines[index] = -np.inf
            nearest[index] = np.argpartition(-cosines, NUM_LOOKALIKES - 1)[:NUM_LOOKALIKES]
        return nearest

    def rank_sums(self, person: str, rows: FeatureArray) -> FeatureArray:
        """Sums over unit rows (N, D) of a person, NaN without a face, in the order of RANK_METRICS: (4,).

        The last two are NaN for fewer than eleven people. Raises DataError if the person has no template.
        """
        if person not in self.index:
            rows_with_face({}, person, "held-out")
        own, faces = self.index[person], rows[~np.isnan(rows[:, 0])]
        cosines = faces @ self.templates.T  # (N, P)
        right = cosines[:, own].copy()
        cosines[:, own] = -np.inf
        sums = np.full(4, np.nan)
        sums[:2] = _reciprocal_and_first(cosines, right)
        if len(self.people) > NUM_LOOKALIKES:
            sums[2:] = _reciprocal_and_first(cosines[:, self.lookalikes[own]], right)
        return sums


def _reciprocal_and_first(cosines: FeatureArray, right: FeatureArray) -> tuple[float, float]:
    """Sums over N images of 1 / rank and of being first. cosines: to others, (N, P); right: to the right person, (N,)."""
    above = (cosines > right[:, None] + TIE).sum(1)  # (N,)
    ties = (cosines >= right[:, None] - TIE).sum(1) - above  # a tie is half a place
    return float((1 / (1 + above + ties / 2)).sum()), float(((above == 0) / (1 + ties)).sum())


def _score(generated: Features, held_out: Features, column: int) -> Score:
    gallery, means = Gallery.of(by_person(held_out)), {}
    if column >= RANK_METRICS.index("lookalike-reciprocal-rank"):
        _ = gallery.lookalikes  # says what is lacking
    for person, rows in by_person(generated).items():
        means[person] = float(gallery.rank_sums(person, rows)[column]) / len(rows)
    return score_of_shares(means)
