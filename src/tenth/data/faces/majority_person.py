"""Find the person who is in most photos of a folder, by face descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[Any]
# Of nine photos of nine people two are near to each other in 17 of 100 folders, of forty up to six: docs/decisions/0010.
MIN_FRACTION = 0.25  # of the photos, that show the person
BLOCK_VALUES = 1 << 14  # of descriptors: with 1,000 faces their differences take 16 MB
MIN_PHOTOS = 3  # that show the person, where that is less than half of them


@dataclass(frozen=True)
class MajorityPerson:
    """face_indices: for each photo the index of the person's face, or None.

    num_photos: photos of the person. num_rival_photos: photos of the next most frequent person, 0 if there is nobody else.
    """

    face_indices: tuple[int | None, ...]
    num_photos: int
    num_rival_photos: int


def find_majority_person(photos: Sequence[FloatArray], max_distance: float) -> MajorityPerson | None:
    """The person in most photos; in a tie, the one whose face is more often the largest. None if that is a tie, too.

    None also where so few photos show the person that they may be strangers who look alike (MIN_FRACTION, MIN_PHOTOS).

    photos: for each photo the descriptors of its faces, (faces, D), the largest first, at least one.
    max_distance: Euclidean distance up to which two descriptors are of one person.
    """
    # All faces of all photos, and their distances.
    photo_index = np.array([photo for photo, rows in enumerate(photos) for _ in rows])  # (F,)
    face_index = np.array([place for rows in photos for place in range(len(rows))])  # (F,), 0 for the largest face of a photo
    descriptors = np.concatenate(list(photos))  # (F, D)
    rows = max(1, BLOCK_VALUES // descriptors.size)  # thousands of photos have as many faces and more
    blocks = [descriptors[start : start + rows] for start in range(0, len(descriptors), rows)]
    distances = np.concatenate([np.linalg.norm(block[:, None] - descriptors[None], axis=2) for block in blocks])  # (F, F)

    free = np.ones(len(descriptors), dtype=bool)
    cluster = _largest_cluster(distances, photo_index, face_index, free, max_distance)
    # The cluster around one face, then every face that is near to most of the cluster: some are far from the central one.
    median = np.array([_lower_median(distances[face, cluster[cluster != face]]) for face in range(len(descriptors))])
    faces = [_nearest(median, np.flatnonzero(photo_index == photo), max_distance) for photo in range(len(photos))]
    chosen = [face for face in faces if face is not None]

    # The same for everybody else.
    free[chosen] = False
    free &= median > max_distance  # the person twice in one photo, as in a mirror, is no rival
    rival = _largest_cluster(distances, photo_index, face_index, free, max_distance) if free.any() else np.array([], dtype=int)
    if len(rival) and _rank(rival, face_index) >= _rank(np.array(chosen), face_index):
        return None
    if len(chosen) < MIN_FRACTION * len(photos) or (len(chosen) < MIN_PHOTOS and 2 * len(chosen) < len(photos)):
        return None
    return MajorityPerson(tuple(None if face is None else int(face_index[face]) for face in faces), len(chosen), len(rival))


def _largest_cluster(
    distances: FloatArray, photo_index: FloatArray, face_index: FloatArray, free: FloatArray, max_distance: float
) -> FloatArray:
    """The largest set of faces, at most one per photo, within `max_distance` of one free face."""
    best, best_rank = np.array([], dtype=int), (0, 0, 0.0)
    for face in np.flatnonzero(free):
        near = np.flatnonzero(free & (distances[face] <= max_distance))
        near = near[np.argsort(distances[face, near], kind="stable")]
        cluster = near[np.unique(photo_index[near], return_index=True)[1]]
        rank = (*_rank(cluster, face_index), -float(distances[face, cluster].mean()))
        if not len(best) or rank > best_rank:
            best, best_rank = cluster, rank
    return best


def _rank(faces: FloatArray, face_index: FloatArray) -> tuple[int, int]:
    return len(faces), int((face_index[faces] == 0).sum())


def _nearest(median: FloatArray, faces: FloatArray, max_distance: float) -> int | None:
    nearest = int(faces[np.argmin(median[faces])])
    return nearest if median[nearest] <= max_distance else None


def _lower_median(distances: FloatArray) -> float:
    return float(np.sort(distances)[(len(distances) - 1) // 2]) if len(distances) else 0.0
