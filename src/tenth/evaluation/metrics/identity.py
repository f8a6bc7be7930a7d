"""Identity metrics: similarity to held-out photos, its floor by impostors, and the check for copied photos.

Features come from a recognizer that conditions no method (face_recognizer.py). NaN rows are images in which it found no
face: a generated one counts with an impostor's similarity and is never dropped; a held-out or reference one is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.bootstrap import Interval, bootstrap_interval

PersonScores = Mapping[str, float]  # person -> the mean over that person's images, sorted by person


@dataclass(frozen=True, eq=False)
class Gallery:
    """Held-out photos of P people as mean directions: the cosine to a mean of unit rows is the mean of the cosines.

    centroids: person -> (D,), no longer than 1. impostor_similarity: person -> mean cosine between that person's held-out
    photos and those of the others, each other person weighing the same; NaN if there is no other.
    """

    centroids: Mapping[str, FeatureArray]
    total: FeatureArray
    impostor_similarity: PersonScores

    def others_centroid(self, person: str) -> FeatureArray:
        """Mean over the other people's centres, (D,); NaN if there is none."""
        centroid, count = self.centroids[person], len(self.centroids) - 1
        return (self.total - centroid) / count if count else np.full_like(centroid, np.nan)


def identity_similarity(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean cosine of each generated image to the held-out photos of its person, over people. Higher is better.

    generated, held_out: (N, D), rows of any length. A generated image without a face counts as the impostor's similarity:
    the mean cosine between held-out photos of this person and of others. Anchors: 1 when generated is the only held-out
    photo; another person's photos score as impostors. Above real photos is a warning, no success: see copy_paste_index.
    Unavailable if an image has no face and there is no other person.
    Raises DataError if a person has no held-out photo with a face.
    """
    del references
    return _similarity_score(identity_similarity_per_person(generated, held_out))


def impostor_similarity(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean cosine of each generated image to the held-out photos of other people: the floor of `identity`. Lower is better.

    A missing face counts as in `identity`, so that it adds nothing to the difference of the two. Unavailable for one person.
    """
    del references
    return _similarity_score(impostor_similarity_per_person(generated, held_out))


def face_detection_rate(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Share of generated images in which the recognizer finds a face, over people. Higher is better; photos have 1."""
    del held_out, references
    return score_over_people(face_detection_rate_per_person(generated))


def true_accept_rate(
    *, generated: Features, held_out: Features, references: Features | None = None, threshold: float | None = None
) -> Score:
    """Share of pairs, generated and held-out, that the recognizer accepts as one person, over people. Higher is better.

    threshold: the least cosine of one person, a property of the recognizer at a stated false-accept rate; unavailable without.
    A missing face is never accepted.
    """
    del references
    if threshold is None:
        return Score(None, unavailable="no threshold is stated for the recognizer")
    photos, values = by_person(held_out), {}
    for person, rows in by_person(generated).items():
        cosines = rows @ _rows_with_face(photos, person, "held-out").T  # (N, K)
        values[person] = float((cosines >= threshold).mean())  # NaN >= threshold is False
    return score_over_people(values)


def copy_paste_index(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """How much nearer an image is to the references than to other photos of the person. Lower is better: 0 is a new photo.

    (angle(g, held) - angle(g, ref)) / angle(held, ref), with the reference and the held-out photo nearest to g. Anchors: 1
    when g is a reference, -1 when it is a held-out photo. With more references than held-out photos a real new photo lies
    above 0, since the nearest of more is nearer (docs/metrics.md has figures): compare methods at equal counts.
    Images without a face count in `detection`, not here. Source: Xu et al. 2025, arXiv:2510.14975, there for one pair.
    Raises DataError if a person has no reference with a face, or if a held-out photo is a reference.
    """
    if references is None:
        return Score(None, unavailable="no references are given")
    return score_over_people(copy_paste_index_per_person(generated, held_out, references))


def identity_similarity_per_person(generated: Features, held_out: Features) -> PersonScores:
    """Person -> mean cosine to that person's held-out photos. NaN: a face is missing and no impostor says what it counts as."""
    gallery, images = build_gallery(held_out), by_person(generated)
    return {
        person: _mean_cosine(rows, _centroid(gallery, person), gallery.impostor_similarity[person])
        for person, rows in images.items()
    }


def impostor_similarity_per_person(generated: Features, held_out: Features) -> PersonScores:
    """Person -> mean cosine of the images to the held-out photos of the others, each other person weighing the same."""
    gallery, means = build_gallery(held_out), {}
    for person, rows in by_person(generated).items():
        _centroid(gallery, person)
        means[person] = _mean_cosine(rows, gallery.others_centroid(person), gallery.impostor_similarity[person])
    return means


def face_detection_rate_per_person(generated: Features) -> PersonScores:
    """Person -> share of images with a face."""
    return {person: float((~np.isnan(rows[:, 0])).mean()) for person, rows in by_person(generated).items()}


def copy_paste_index_per_person(generated: Features, held_out: Features, references: Features) -> PersonScores:
    """Person -> mean copy index of the images with a face; people without any such image are left out."""
    held, refs, means = by_person(held_out), by_person(references), {}
    for person, rows in by_person(generated).items():
        held_out_rows, reference_rows = _rows_with_face(held, person, "held-out"), _rows_with_face(refs, person, "reference")
        with_face = rows[~np.isnan(rows[:, 0])]
        if len(with_face):
            means[person] = float(_copy_paste_indices(with_face, held_out_rows, reference_rows, person).mean())
    return means


def build_gallery(held_out: Features) -> Gallery:
    """The held-out photos, ready to compare with."""
    photos = by_person(held_out)
    centroids = {person: _rows_with_face(photos, person, "held-out").mean(0) for person in photos}
    gallery = Gallery(centroids, np.sum(list(centroids.values()), axis=0), {})
    return replace(
        gallery,
        impostor_similarity={person: float(centre @ gallery.others_centroid(person)) for person, centre in centroids.items()},
    )


def _copy_paste_indices(rows: FeatureArray, held_out: FeatureArray, references: FeatureArray, person: str) -> FeatureArray:
    to_held_out, to_references, between = (
        _angles(rows, held_out),
        _angles(rows, references),
        _angles(held_out, references),
    )  # (N, K) (N, R) (K, R)
    if (between == 0).any():
        raise DataError(f"a held-out photo of {person} is also a reference", "the two must not meet", "Split the photos again")
    nearest_angles = between[to_held_out.argmin(1), to_references.argmin(1)]  # (N,)
    indices: FeatureArray = (to_held_out.min(1) - to_references.min(1)) / nearest_angles
    return indices


def _angles(a: FeatureArray, b: FeatureArray) -> FeatureArray:
    # Kahan's form: exactly 0 for equal rows, where arccos of their product is 1e-8 off.
    difference, total = a[:, None] - b[None], a[:, None] + b[None]  # (N, K, D)
    angles: FeatureArray = 2 * np.arctan2(np.linalg.norm(difference, axis=2), np.linalg.norm(total, axis=2))
    return angles


def _mean_cosine(rows: FeatureArray, centroid: FeatureArray, impostor_similarity: float) -> float:
    cosines = rows @ centroid  # (N,)
    return float(np.where(np.isnan(rows[:, 0]), impostor_similarity, cosines).mean())


def by_person(features: Features) -> dict[str, FeatureArray]:
    """Unit rows of each person, (N, D), people sorted; NaN rows stay."""
    rows, people = features.vectors, np.array(features.people, dtype=object)
    lengths = np.linalg.norm(rows, axis=1) if rows.ndim == 2 else np.zeros(0)
    missing = np.isnan(rows).all(1) if rows.ndim == 2 else np.zeros(0, bool)
    if not 0 < len(rows) == len(people) == len(lengths) or not (np.isfinite(lengths[~missing]) & (lengths[~missing] > 0)).all():
        raise DataError(
            f"features of shape {rows.shape} for {len(people)} people's tags, or with a zero or half-missing row",
            "one row (D,) per image is needed, all NaN where no face was found",
            "Embed the images again",
        )
    unit = rows / lengths[:, None]
    return {person: unit[people == person] for person in sorted(set(features.people))}


def _rows_with_face(photos: Mapping[str, FeatureArray], person: str, role: str) -> FeatureArray:
    rows = photos.get(person, np.empty((0, 1)))
    with_face = rows[~np.isnan(rows[:, 0])]
    if not len(with_face):
        raise DataError(f"{person} has no {role} photo with a face", "one is needed", "Add photos, or leave the person out")
    return with_face


def _centroid(gallery: Gallery, person: str) -> FeatureArray:
    if person not in gallery.centroids:
        raise DataError(f"{person} has no held-out photo", "one with a face is needed", "Add photos, or leave the person out")
    return gallery.centroids[person]


def _similarity_score(values: PersonScores) -> Score:
    if any(np.isnan(value) for value in values.values()):
        return Score(None, unavailable="there is no other person to measure an impostor's similarity on")
    return score_over_people(values)


def score_over_people(values: PersonScores) -> Score:
    """The mean of per-person values with its interval; unavailable where there is none, since no image has a face."""
    if not values:
        return Score(None, unavailable="no generated image has a face")
    mean_interval: Interval = bootstrap_interval(list(values.values()))
    return Score(mean_interval.value, mean_interval.low, mean_interval.high, mean_interval.n)
