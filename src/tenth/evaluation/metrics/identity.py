"""Identity metrics: similarity to held-out photos, its floor by impostors, and the check for copied photos.

Features come from a recognizer that conditions no method (face_recognizer.py). NaN rows are images in which it found no
face: a generated one counts with an impostor's similarity and is never dropped; a held-out or reference one is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.bootstrap import bootstrap_interval, share_interval

NO_THRESHOLD, NO_REFERENCES_GIVEN = "no threshold is stated for the recognizer", "no references are given"
PersonScores = Mapping[str, float]  # person -> the mean over that person's images, sorted by person


def identity_similarity(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean cosine of each generated image to the held-out photos of its person, over people. Higher is better.

    generated, held_out: (N, D), rows of any length. A generated image without a face counts as the impostor's similarity: the
    mean cosine between held-out photos of this person and of others. Above real photos is a warning: see `copy_paste_index`.
    Unavailable if an image has no face and there is no other person. Raises DataError if a person has no held-out face.
    """
    del references
    return similarity_score(identity_similarity_per_person(generated, held_out))


def impostor_similarity(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean cosine of each generated image to held-out photos of other people, who weigh the same. Lower is better.

    The floor of `identity_similarity`. A missing face counts as there, and adds nothing to the difference of the two. The
    interval is over people in both roles: each has images, and is an impostor to the others' images.
    """
    del references
    centroids, means = _centroids(generated, held_out), {}
    for person, rows in by_person(generated).items():
        means[person] = np.where(np.isnan(rows), centroids[person], rows).mean(0)  # (D,)
    total, num_others = _sum(centroids), len(centroids) - 1
    to_own = {person: float(mean @ centroids[person]) for person, mean in means.items()}
    to_others = {person: float(mean @ total - to_own[person]) / (num_others or np.nan) for person, mean in means.items()}
    return similarity_score(in_both_roles(to_others, to_own, _sum(means), centroids))


def in_both_roles(
    to_others: PersonScores, to_own: PersonScores, total: FeatureArray, centroids: Mapping[str, FeatureArray]
) -> PersonScores:
    """Per-person values whose mean is that of `to_others` and whose spread is that mean's error, for `impostor_similarity`.

    A mean over pairs of people varies with both: a value is the first-order influence of a person (Hoeffding 1948,
    doi:10.1214/aoms/1177730196). total: the sum of all people's mean images, (D,), of which `to_own` has the cosines to the own
    centroid; centroids: mean held-out rows, (D,).
    """
    num_others = len(centroids) - 1 or np.nan
    as_impostor = {person: float(total @ centroids[person] - own) / num_others for person, own in to_own.items()}
    mean = np.mean(list(as_impostor.values()))
    return {person: value + as_impostor[person] - float(mean) for person, value in to_others.items()}


def face_detection_rate(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Share of generated images in which the recognizer finds a face, over people. Higher is better; photos have 1."""
    del held_out, references
    return score_of_shares({person: float((~np.isnan(rows[:, 0])).mean()) for person, rows in by_person(generated).items()})


def true_accept_rate(
    *, generated: Features, held_out: Features, references: Features | None = None, threshold: float | None = None
) -> Score:
    """Share of pairs, generated and held-out, that the recognizer accepts as one person, over people. Higher is better.

    threshold: the least cosine of one person, at a stated false-accept rate; unavailable without. No face is no match.
    """
    del references
    if threshold is None:
        return Score(None, unavailable=NO_THRESHOLD)
    photos, rates = by_person(held_out), {}
    for person, rows in by_person(generated).items():
        cosines = rows @ rows_with_face(photos, person, "held-out").T  # (N, K)
        rates[person] = float((cosines >= threshold).mean())  # NaN >= threshold is False
    return score_of_shares(rates)


def copy_paste_index(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """How much nearer an image is to the references than to other photos of the person. Lower is better: 0 is a new photo.

    (angle(g, held) - angle(g, ref)) / angle(held, ref), with the reference and the held-out photo nearest to g: 1 for a
    reference, -1 for a held-out photo. Compare methods at equal counts: the nearest of more is nearer (docs/metrics.md).
    Images without a face, and people without any with one, are left out. Source: Xu et al. 2025, arXiv:2510.14975.
    Raises DataError if a person has no reference with a face, or if a held-out photo is a reference.
    """
    if references is None:
        return Score(None, unavailable=NO_REFERENCES_GIVEN)
    photos, given, means = by_person(held_out), by_person(references), {}
    for person, rows in by_person(generated).items():
        held, refs = rows_with_face(photos, person, "held-out"), rows_with_face(given, person, "reference")
        images = rows[~np.isnan(rows[:, 0])]
        if len(images):
            require_distinct(held, refs, person)
            means[person] = float(copy_paste_indices(images, held, refs).mean())
    return score_over_people(means)


def copy_paste_indices(images: FeatureArray, held_out: FeatureArray, references: FeatureArray) -> FeatureArray:
    """The index of each image, (N,), of unit rows of one person, (N, D), (K, D) and (R, D), all with a face."""
    to_held, to_refs = _angles(images, held_out), _angles(images, references)  # (N, K) (N, R)
    nearest = _angles(held_out, references)[to_held.argmin(1), to_refs.argmin(1)]  # (N,)
    indices: FeatureArray = (to_held.min(1) - to_refs.min(1)) / nearest
    return indices


def require_distinct(held_out: FeatureArray, references: FeatureArray, person: str) -> None:
    """Raises DataError if a held-out photo is a reference: unit rows (K, D) and (R, D)."""
    if (_angles(held_out, references) == 0).any():
        found = f"a held-out photo of {person} is also a reference"
        raise DataError(found, "the two must not meet", "Split the photos again")


def identity_similarity_per_person(generated: Features, held_out: Features) -> PersonScores:
    """Person -> mean cosine to that person's held-out photos. NaN: a face is missing and no impostor says what it counts as.

    The cosine to a mean of unit rows is the mean of the cosines to them.
    """
    centroids, images = _centroids(generated, held_out), by_person(generated)
    total, num_others, means = _sum(centroids), len(centroids) - 1, {}
    for person, rows in images.items():
        own = centroids[person]
        impostors = float(own @ (total - own)) / (num_others or np.nan)
        means[person] = float(np.where(np.isnan(rows[:, 0]), impostors, rows @ own).mean())
    return means


def _centroids(generated: Features, held_out: Features) -> dict[str, FeatureArray]:
    """Person -> mean of the held-out unit rows with a face, (D,), of all people of both sides."""
    photos, images = by_person(held_out), by_person(generated)
    return {person: rows_with_face(photos, person, "held-out").mean(0) for person in {**photos, **images}}


def _sum(rows: Mapping[str, FeatureArray]) -> FeatureArray:
    return np.asarray(np.sum(list(rows.values()), axis=0))


def by_person(features: Features) -> dict[str, FeatureArray]:
    """Unit rows of each person, (N, D), people sorted; NaN rows stay. Raises DataError for rows that are no embeddings."""
    rows, people = features.vectors, np.array(features.people, dtype=object)
    lengths = np.linalg.norm(rows, axis=1) if rows.ndim == 2 else np.zeros(0)
    known = lengths[~np.isnan(rows).all(1)] if rows.ndim == 2 else lengths
    if not 0 < len(rows) == len(people) == len(lengths) or not (np.isfinite(known) & (known > 0)).all():
        raise DataError(
            f"features of shape {rows.shape} for {len(people)} people's tags, or with a zero or half-missing row",
            "one row (D,) per image is needed, all NaN where no face was found",
            "Embed the images again",
        )
    unit = rows / lengths[:, None]
    return {person: unit[people == person] for person in sorted(set(features.people))}


def score_over_people(values: PersonScores) -> Score:
    """The mean of per-person values with its interval; unavailable where there is none, since no image has a face."""
    if not values:
        return Score(None, unavailable="no generated image has a face")
    return Score(**vars(bootstrap_interval(list(values.values()))))


def score_of_shares(values: PersonScores) -> Score:
    """As `score_over_people`, of shares, with `share_interval`."""
    return Score(**vars(share_interval(list(values.values()))))


def _angles(a: FeatureArray, b: FeatureArray) -> FeatureArray:
    # Kahan's form: exactly 0 for equal rows, where arccos of their product is 1e-8 off.
    difference, total = a[:, None] - b[None], a[:, None] + b[None]  # (N, K, D)
    angles: FeatureArray = 2 * np.arctan2(np.linalg.norm(difference, axis=2), np.linalg.norm(total, axis=2))
    return angles


def rows_with_face(photos: Mapping[str, FeatureArray], person: str, role: str) -> FeatureArray:
    """A person's rows (K, D) that have a face. Raises DataError, in which they are the `role` photos, if there is none."""
    rows = photos.get(person, np.empty((0, 1)))
    with_face = rows[~np.isnan(rows[:, 0])]
    if not len(with_face):
        raise DataError(f"{person} has no {role} photo with a face", "one is needed", "Add photos, or leave the person out")
    return with_face


def similarity_score(values: PersonScores) -> Score:
    """As `score_over_people`; unavailable where a face is missing and nothing says what it counts as: NaN."""
    if any(map(np.isnan, values.values())):
        return Score(None, unavailable="there is no other person to measure an impostor's similarity on")
    return score_over_people(values)
