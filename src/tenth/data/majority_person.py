"""Whose folder it is: the person who is in most of its photos, told by the faces alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[Any]


@dataclass(frozen=True)
class Chosen:
    """faces: for each photo which of its faces is the person's, None where none is. photos: how many show the person.

    rival: how many photos show the next most frequent person, 0 if there is nobody else.
    """

    faces: tuple[int | None, ...]
    photos: int
    rival: int


def most_frequent(photos: Sequence[Rows], same_person: float) -> Chosen | None:
    """The person in most photos; of two in as many, the one whose face is the largest more often. None if that is even, too.

    photos: of each photo the descriptors of its faces, (faces, D), the largest first; every photo has at least one.
    same_person: Euclidean distance up to which two descriptors show one person.
    """
    owner = np.array([photo for photo, rows in enumerate(photos) for _ in rows])  # (F,)
    order = np.array([place for rows in photos for place in range(len(rows))])  # (F,), 0 for the largest face of its photo
    rows = np.concatenate(list(photos))  # (F, D)
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)  # (F, F)

    free = np.ones(len(rows), dtype=bool)
    ours = _around(distances, owner, order, free, same_person)
    # Whoever of the person's other photos is far from the one in the middle is near to most of the others.
    median = np.array([_lower_median(distances[face, ours[ours != face]]) for face in range(len(rows))])
    faces = [_nearest(median, np.flatnonzero(owner == photo), same_person) for photo in range(len(photos))]
    taken = [face for face in faces if face is not None]

    free[taken] = False
    free &= median > same_person  # a second picture of the person in one photo, such as in a mirror, is no rival
    rival = _around(distances, owner, order, free, same_person) if free.any() else np.array([], dtype=int)
    if len(rival) and _rank(rival, order) >= _rank(np.array(taken), order):
        return None
    return Chosen(tuple(None if face is None else int(order[face]) for face in faces), len(taken), len(rival))


def _around(distances: Rows, owner: Rows, order: Rows, free: Rows, same_person: float) -> Rows:
    """The faces, one of a photo at most, around that free face around which the most are."""
    best, best_rank = np.array([], dtype=int), (0, 0, 0.0)
    for face in np.flatnonzero(free):
        near = np.flatnonzero(free & (distances[face] <= same_person))
        near = near[np.argsort(distances[face, near], kind="stable")]
        one_each = near[np.unique(owner[near], return_index=True)[1]]
        rank = (*_rank(one_each, order), -float(distances[face, one_each].mean()))
        if not len(best) or rank > best_rank:
            best, best_rank = one_each, rank
    return best


def _rank(faces: Rows, order: Rows) -> tuple[int, int]:
    return len(faces), int((order[faces] == 0).sum())


def _nearest(median: Rows, faces: Rows, same_person: float) -> int | None:
    nearest = int(faces[np.argmin(median[faces])])
    return nearest if median[nearest] <= same_person else None


def _lower_median(distances: Rows) -> float:
    return float(np.sort(distances)[(len(distances) - 1) // 2]) if len(distances) else 0.0
