"""Poor photos: worse to a recognizer, the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.types import Photo
from tenth.data.degradations import DEGRADATIONS, degrade
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.faces.detection import find_faces
from tenth.data.photo import open_photo


@pytest.fixture(scope="module")
def photo(face_photos: list[Path]) -> Photo:
    opened = open_photo(face_photos[0])
    return Photo(opened.pixels, opened.digest, opened.file, find_faces(opened.pixels)[0])


@pytest.mark.slow
@pytest.mark.parametrize("worse", DEGRADATIONS)
def test_each_way_changes_the_face_and_what_is_read_of_it(photo: Photo, worse: object) -> None:
    assert callable(worse)
    assert photo.face is not None
    for seed in range(5):
        picture = worse(Image.fromarray(photo.pixels), photo.face.box, np.random.default_rng(seed))
        pixels = np.array(picture)
        assert pixels.shape == photo.pixels.shape
        left, top, right, bottom = photo.face.box
        changed = np.abs(pixels.astype(int) - photo.pixels.astype(int))[top:bottom, left:right]
        assert changed.mean() > 2
        distance = np.linalg.norm(face_descriptor(Photo(pixels, "", face=photo.face)) - face_descriptor(photo))
        assert distance > 0.1


def test_how_it_is_made_worse_follows_from_its_digest(photo: Photo) -> None:
    made = [degrade(Photo(photo.pixels, f"{number:016x}{0:048x}", face=photo.face)) for number in range(30)]
    again = degrade(Photo(photo.pixels, f"{3:016x}{0:048x}", face=photo.face))
    assert np.array_equal(made[3].pixels, again.pixels)
    assert len({each.pixels.tobytes() for each in made}) > 20  # some round to the same number of pixels
    assert all(each.digest == f"{number:016x}{0:048x}" and each.face is photo.face for number, each in enumerate(made))


def test_without_a_face_the_whole_image_counts(photo: Photo) -> None:
    assert not np.array_equal(degrade(Photo(photo.pixels, photo.digest)).pixels, photo.pixels)
