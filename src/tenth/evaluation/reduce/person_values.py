"""Each person's values from the sums of all images -> identity metrics with their intervals."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Score
from tenth.evaluation.metrics.diversity import NOBODY_TWICE
from tenth.evaluation.metrics.identity import (
    NO_REFERENCES_GIVEN,
    NO_THRESHOLD,
    PersonScores,
    in_both_roles,
    require_distinct,
    rows_with_face,
    score_of_shares,
    score_over_people,
    similarity_score,
)
from tenth.evaluation.metrics.inputs import available
from tenth.evaluation.metrics.recognition.groups import GENDER_METRICS
from tenth.evaluation.metrics.recognition.identification import NUM_LOOKALIKES, RANK_METRICS
from tenth.evaluation.metrics.recognition.verification import FALSE_ACCEPT_RATES
from tenth.evaluation.reduce.person_sums import PersonSum, RealFaces

Measure = Callable[[str, PersonSum, RealFaces], float | None]


class PersonValues:
    """The values of people whose images are complete: a few numbers each, so that a million people are no burden.

    Shares above resampled thresholds are 50 numbers; they are measured for at most 20,000 real photos.
    """

    def __init__(self, real: RealFaces) -> None:
        self.real = real
        self._names: dict[str, list[str]] = {name: [] for name in MEASURES}
        self._values = {name: array("d") for name in MEASURES}
        self._problems: dict[str, tuple[str, DataError]] = {}  # of the first person in order
        self._total: FeatureArray | float = 0.0  # of the people's mean images, (D,)
        self._shares: dict[str, dict[str, FeatureArray]] = {name: {} for name in FALSE_ACCEPT_RATES}

    def add(self, person: str, sums: PersonSum) -> None:
        """Add a person, once, with the sums of all images."""
        for name, measure in MEASURES.items():
            try:
                value = measure(person, sums, self.real)
            except DataError as problem:
                self._add_problem(name, person, problem)
                continue
            if value is not None:
                self._names[name].append(person)
                self._values[name].append(value)
        for index, name in enumerate(FALSE_ACCEPT_RATES):
            try:
                self._shares[name][person] = passing_shares(name, sums.passing[index], person, sums, self.real)
            except DataError as problem:
                self._add_problem(name, person, problem)
        if OWN not in self._problems:
            self._total = self._total + _mean_image(sums, _centroids(person, self.real)[0])

    def scores(self) -> dict[str, Score]:
        """The metrics of all people, as of all their images at once: to the digit, since people are sorted."""
        return {name: self._score(name) for name in METRICS_OF_PEOPLE}

    def _add_problem(self, name: str, person: str, problem: DataError) -> None:
        if name not in self._problems or person < self._problems[name][0]:
            self._problems[name] = (person, problem)

    def _score(self, name: str) -> Score:
        # What a metric needs and does not have.
        if name == "true-accept-rate" and self.real.threshold is None:
            return Score(None, unavailable=NO_THRESHOLD)
        if name == "copy-paste-index" and self.real.references is None:
            return Score(None, unavailable=NO_REFERENCES_GIVEN)
        if (source := "identity-similarity" if name in GENDER_METRICS else name) in self._problems:
            return Score(None, unavailable=str(self._problems[source][1]))

        # Those that need more than a value of each person.
        if name in GENDER_METRICS:
            return available(lambda: GENDER_METRICS[name](self._ordered("identity-similarity"), self.real.attributes))
        if name == "impostor-similarity":
            total = np.asarray(self._total)
            return similarity_score(in_both_roles(self._ordered(name), self._ordered(OWN), total, self.real.centroids))
        if name in FALSE_ACCEPT_RATES:
            pairs = self.real.impostor_pairs[name]
            assert not isinstance(pairs, DataError)  # it would be a problem of the first person
            return pairs.score(self._shares[name])

        # The others.
        of = similarity_score if name == "identity-similarity" else score_of_shares if name in SHARES else score_over_people
        score = of(self._ordered(name))
        if name == "identity-diversity" and score.value is None:
            return replace(score, unavailable=NOBODY_TWICE)
        return score

    def _ordered(self, name: str) -> PersonScores:
        """Sorted by person, as the bootstrap draws them."""
        names, values = self._names[name], self._values[name]
        return {names[index]: values[index] for index in sorted(range(len(names)), key=names.__getitem__)}


def identity_similarity(person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The mean cosine to the person's held-out photos; an image without a face counts as an impostor's."""
    own, others = _centroids(person, real)
    missing = sums.images - sums.faces
    return float(sums.row_sum @ own + (missing * (own @ others) if missing else 0)) / sums.images


def impostor_similarity(person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The same to other people's held-out photos."""
    own, others = _centroids(person, real)
    return float(sums.row_sum @ others + (sums.images - sums.faces) * (own @ others)) / sums.images


def own_similarity(person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The cosine of the mean image to the own held-out photos, of which one without a face is one."""
    own, _ = _centroids(person, real)
    return float(_mean_image(sums, own) @ own)


def rank_mean(column: int, person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The mean of one of RANK_METRICS."""
    if isinstance(real.gallery, DataError):
        raise real.gallery
    if column > 1 and len(real.gallery.people) <= NUM_LOOKALIKES:
        _ = real.gallery.lookalikes  # says what is lacking
    rows_with_face(real.held_out, person, "held-out")
    return float(sums.ranks[column]) / sums.images


def passing_shares(name: str, passing: FeatureArray, person: str, sums: PersonSum, real: RealFaces) -> FeatureArray:
    """The shares of pairs above the threshold of each level, (L,)."""
    if isinstance(pairs := real.impostor_pairs[name], DataError):
        raise pairs
    return passing / (sums.images * len(rows_with_face(real.held_out, person, "held-out")))


def true_accept_rate(person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The share of accepted pairs."""
    if real.threshold is None:
        return None
    return sums.accepted / (sums.images * len(rows_with_face(real.held_out, person, "held-out")))


def face_detection_rate(person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The share of images with a face."""
    del person, real
    return sums.faces / sums.images


def copy_paste_index(person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The mean index of images with a face."""
    if real.references is None:
        return None
    held, given = (
        rows_with_face(real.held_out, person, "held-out"),
        rows_with_face(real.references, person, "reference"),
    )
    if not sums.faces:
        return None
    require_distinct(held, given, person)
    return sums.copying / sums.faces


def identity_diversity(person: str, sums: PersonSum, real: RealFaces) -> float | None:
    """The mean of 1 - cosine over pairs of images with a face."""
    del person, real
    n = sums.faces
    return 1 - float(np.square(sums.row_sum).sum() - n) / (n * (n - 1)) if n > 1 else None


OWN = "own-similarity"  # no metric: what the interval of the impostor similarity needs
MEASURES: dict[str, Measure] = {
    "identity-similarity": identity_similarity,
    "impostor-similarity": impostor_similarity,
    "true-accept-rate": true_accept_rate,
    "face-detection-rate": face_detection_rate,
    "copy-paste-index": copy_paste_index,
    "identity-diversity": identity_diversity,
    OWN: own_similarity,
    **{name: partial(rank_mean, column) for column, name in enumerate(RANK_METRICS)},
}
SHARES = ("true-accept-rate", "face-detection-rate", *RANK_METRICS)
METRICS_OF_PEOPLE = (*(name for name in MEASURES if name != OWN), *FALSE_ACCEPT_RATES, *GENDER_METRICS)


def _mean_image(sums: PersonSum, own: FeatureArray) -> FeatureArray:
    """The mean unit row, (D,), of all images; one without a face counts as the own held-out photos."""
    return np.asarray((sums.row_sum + (sums.images - sums.faces) * own) / sums.images)


def _centroids(person: str, real: RealFaces) -> tuple[FeatureArray, FeatureArray]:
    """The mean held-out row of the person and that of the others, (D,) each; NaN where there is no other."""
    num_others = len(real.centroids) - 1
    own = real.centroids[person] if person in real.centroids else rows_with_face(real.held_out, person, "held-out")[0]
    return own, (real.total - own) / num_others if num_others else np.full_like(own, np.nan)
