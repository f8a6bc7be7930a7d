"""The person of a folder: who is in most photos, then who is largest in most; otherwise nobody can tell."""

from __future__ import annotations

import numpy as np
import pytest

from tenth.data.faces.majority_person import find_majority_person

NEAR = 0.6
Faces = list[list[float]]  # of each photo, the largest first


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        ([[0.0]], [0]),
        ([[0.0], [0.1]], [0, 0]),
        ([[0.0], [1.0]], None),
        ([[0.0], [0.1], [1.0]], [0, 0, None]),
        ([[0.0], [1.0], [2.0]], None),
        ([[0.0], [0.5], [1.0]], [0, 0, 0]),  # the middle one holds them together
        ([[0.0], [0.1], [1.0], [1.1]], None),  # two against two
        ([[0.0], [0.1], [0.2], [1.0], [1.1]], [0, 0, 0, None, None]),
        ([[1.0], [0.0], [0.1], [0.2], [0.3], [2.0]], [None, 0, 0, 0, 0, None]),
        ([[0.0, 1.0]], [0]),  # one photo: the largest
        ([[0.0, 5.0], [1.0, 5.1], [2.0, 5.2]], [1, 1, 1]),  # never the largest, but always there
        ([[5.0, 0.0], [5.1, 1.0], [0.1]], [0, 0, None]),  # two each: whose face is larger more often
        ([[0.0, 5.0], [0.1, 5.1], [5.2, 0.2]], [0, 0, 1]),  # always together
        ([[0.0, 5.0], [5.1, 0.1]], None),
        ([[0.0, 0.1], [0.2]], [1, 0]),  # a mirror is no rival
        ([[0.0], [0.1], [1.0], [2.0]], [0, 0, None, None]),
        ([[0.0], [0.1], [1.0], [2.0], [3.0]], None),  # two of five who look alike, by chance
        ([[0.0], [0.1], [0.2], *([place] for place in range(2, 11))], [0, 0, 0, *[None] * 9]),
        ([[0.0], [0.1], [0.2], *([place] for place in range(2, 12))], None),  # fewer than a quarter
    ],
)
def test_most_frequent(photos: Faces, expected: list[int | None] | None) -> None:
    chosen = find_majority_person([np.array(faces).reshape(-1, 1) for faces in photos], NEAR)
    assert (None if chosen is None else list(chosen.face_indices)) == expected


def test_how_many_photos_show_whom() -> None:
    chosen = find_majority_person([np.array([[0.0], [5.0]]), np.array([[0.1], [5.1]]), np.array([[0.2]])], NEAR)
    assert chosen is not None
    assert (chosen.num_photos, chosen.num_rival_photos) == (3, 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_photos_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    person, friend = rng.normal(0, 1, (2, 128))
    photos = [np.stack([centre + rng.normal(0, 0.02, 128) for centre in (friend, person)][number % 2 :]) for number in range(9)]
    for order in (range(9), rng.permutation(9)):
        chosen = find_majority_person([photos[number] for number in order], NEAR)
        assert chosen is not None
        assert [int(order[place] % 2 == 0) for place in range(9)] == list(chosen.face_indices)
