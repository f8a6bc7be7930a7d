"""Is it this person? Similarity to held-out photos, with the floor that strangers set and the check for copied photos.

Rows come from a recogniser that no method has seen (recogniser.py). NaN rows are pictures in which it found no face:
a generated one counts as an impostor's similarity, never as a dropped picture; a held-out or reference one is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import Features, Score
from tenth.evaluation.metrics.bootstrap import Interval, interval

Rows = npt.NDArray[np.float64]
PerPerson = Mapping[str, float]  # person -> the mean over that person's images, sorted by person


@dataclass(frozen=True, eq=False)
class Gallery:
    """Held-out photos of P people as mean directions: the cosine to a mean of unit rows is the mean of the cosines.

    centres: person -> (D,), no longer than 1. impostor: person -> mean cosine between that person's held-out photos and
    those of the others, each other person weighing the same; NaN if there is no other.
    """

    centres: Mapping[str, Rows]
    total: Rows
    impostor: PerPerson

    def others(self, person: str) -> Rows:
        """Mean over the other people's centres, (D,); NaN if there is none."""
        own, count = self.centres[person], len(self.centres) - 1
        return (self.total - own) / count if count else np.full_like(own, np.nan)


def identity(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean cosine of each generated image to the held-out photos of its person, over people. Higher is better.

    generated, held_out: (N, D), rows of any length. A generated image without a face counts as the impostor's similarity:
    the mean cosine between held-out photos of this person and of others. Anchors: 1 when generated is the only held-out
    photo; another person's photos score the stranger floor. Above real photos is a warning, not a success: see copy_index.
    Unavailable if an image has no face and there is no other person.
    Raises DataError if a person has no held-out photo with a face.
    """
    del references
    return _similarity_score("identity", similarity_per_person(generated, held_out), "higher")


def stranger(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean cosine of each generated image to the held-out photos of other people: the floor of `identity`. Lower is better.

    A missing face counts as in `identity`, so that it adds nothing to the difference of the two. Unavailable for one person.
    """
    del references
    return _similarity_score("stranger", stranger_per_person(generated, held_out), "lower")


def detection(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Share of generated images in which the recogniser finds a face, over people. Higher is better; photos have 1."""
    del held_out, references
    return score_over_people("detection", detection_per_person(generated), "higher")


def acceptance(
    *, generated: Features, held_out: Features, references: Features | None = None, threshold: float | None = None
) -> Score:
    """Share of pairs, generated and held-out, that the recogniser takes for one person, over people. Higher is better.

    threshold: the least cosine of one person, a property of the recogniser at a stated false-accept rate; unavailable without.
    A missing face is never accepted.
    """
    del references
    if threshold is None:
        return Score("acceptance", None, unavailable="no threshold is stated for the recogniser")
    photos, values = by_person(held_out), {}
    for person, rows in by_person(generated).items():
        cosines = rows @ _with_face(photos, person, "held-out").T  # (N, K)
        values[person] = float((cosines >= threshold).mean())  # NaN >= threshold is False
    return score_over_people("acceptance", values, "higher")


def copy_index(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """How much nearer an image is to the references than to other photos of the person. Lower is better: 0 is a new photo.

    (angle(g, held) - angle(g, ref)) / angle(held, ref), with the reference and the held-out photo nearest to g. Anchors: 1
    when g is a reference, -1 when it is a held-out photo. With more references than held-out photos a real new photo lies
    above 0, since the nearest of more is nearer (docs/metrics.md has figures): compare methods at equal counts.
    Images without a face are in `detection`, not here. Source: Xu et al. 2025, arXiv:2510.14975, there for one pair.
    Raises DataError if a person has no reference with a face, or if a held-out photo is a reference.
    """
    if references is None:
        return Score("copy-index", None, better="lower", unavailable="no references are given")
    values = copy_index_per_person(generated, held_out, references)
    return score_over_people("copy-index", values, "lower")


def similarity_per_person(generated: Features, held_out: Features) -> PerPerson:
    """Person -> mean cosine to that person's held-out photos. NaN: a face is missing and no impostor says what it counts as."""
    gallery, images = gallery_of(held_out), by_person(generated)
    return {person: _mean_cosine(rows, _centre(gallery, person), gallery.impostor[person]) for person, rows in images.items()}


def stranger_per_person(generated: Features, held_out: Features) -> PerPerson:
    """Person -> mean cosine of the images to the held-out photos of the others, each other person weighing the same."""
    gallery, means = gallery_of(held_out), {}
    for person, rows in by_person(generated).items():
        _centre(gallery, person)
        means[person] = _mean_cosine(rows, gallery.others(person), gallery.impostor[person])
    return means


def detection_per_person(generated: Features) -> PerPerson:
    """Person -> share of images with a face."""
    return {person: float((~np.isnan(rows[:, 0])).mean()) for person, rows in by_person(generated).items()}


def copy_index_per_person(generated: Features, held_out: Features, references: Features) -> PerPerson:
    """Person -> mean copy index of the images with a face; people without any such image are left out."""
    held, refs, means = by_person(held_out), by_person(references), {}
    for person, rows in by_person(generated).items():
        new, given = _with_face(held, person, "held-out"), _with_face(refs, person, "reference")
        seen = rows[~np.isnan(rows[:, 0])]
        if len(seen):
            means[person] = float(_copy_indices(seen, new, given, person).mean())
    return means


def gallery_of(held_out: Features) -> Gallery:
    """The held-out photos, ready to compare with."""
    photos = by_person(held_out)
    centres = {person: _with_face(photos, person, "held-out").mean(0) for person in photos}
    without = Gallery(centres, np.sum(list(centres.values()), axis=0), {})
    return replace(without, impostor={person: float(centre @ without.others(person)) for person, centre in centres.items()})


def _copy_indices(seen: Rows, new: Rows, given: Rows, person: str) -> Rows:
    to_new, to_given, between = _angles(seen, new), _angles(seen, given), _angles(new, given)  # (N, K) (N, R) (K, R)
    if (between == 0).any():
        raise DataError(f"a held-out photo of {person} is also a reference", "the two must not meet", "Split the photos again")
    apart = between[to_new.argmin(1), to_given.argmin(1)]  # (N,)
    indices: Rows = (to_new.min(1) - to_given.min(1)) / apart
    return indices


def _angles(a: Rows, b: Rows) -> Rows:
    # Kahan's form: exactly 0 for equal rows, where arccos of their product is 1e-8 off.
    difference, total = a[:, None] - b[None], a[:, None] + b[None]  # (N, K, D)
    angles: Rows = 2 * np.arctan2(np.linalg.norm(difference, axis=2), np.linalg.norm(total, axis=2))
    return angles


def _mean_cosine(rows: Rows, centre: Rows, impostor: float) -> float:
    cosines = rows @ centre  # (N,)
    return float(np.where(np.isnan(rows[:, 0]), impostor, cosines).mean())


def by_person(features: Features) -> dict[str, Rows]:
    """Unit rows of each person, (N, D), people sorted; NaN rows stay."""
    rows, people = features.rows, np.array(features.people, dtype=object)
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


def _with_face(photos: Mapping[str, Rows], person: str, side: str) -> Rows:
    rows = photos.get(person, np.empty((0, 1)))
    seen = rows[~np.isnan(rows[:, 0])]
    if not len(seen):
        raise DataError(f"{person} has no {side} photo with a face", "one is needed", "Add photos, or leave the person out")
    return seen


def _centre(gallery: Gallery, person: str) -> Rows:
    if person not in gallery.centres:
        raise DataError(f"{person} has no held-out photo", "one with a face is needed", "Add photos, or leave the person out")
    return gallery.centres[person]


def _similarity_score(name: str, values: PerPerson, better: str) -> Score:
    if any(np.isnan(value) for value in values.values()):
        return Score(name, None, better=better, unavailable="there is no other person to measure an impostor's similarity on")
    return score_over_people(name, values, better)


def score_over_people(name: str, values: PerPerson, better: str) -> Score:
    """The mean of per-person values with its interval; unavailable where there is none, since no image has a face."""
    if not values:
        return Score(name, None, better=better, unavailable="no generated image has a face")
    found: Interval = interval(list(values.values()))
    return Score(name, found.value, found.low, found.high, found.n, better)
