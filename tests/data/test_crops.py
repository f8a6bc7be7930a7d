"""A people list and its photos: the photos are those that it lists, whatever they are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.data.faces.crops import PhotoDataset
from toy_latents import photo_dataset


def test_a_photo_is_the_one_that_was_listed(face_photos: list[Path], tmp_path: Path) -> None:
    listed = photo_dataset(tmp_path, face_photos)
    entry = next(row for row in listed.entries("train") if row.file == face_photos[0].name)
    photo = listed.open_with_central_face(entry)
    assert photo is not None
    assert photo.digest == entry.digest

    # Another variant of a data set has the same names.
    shutil.copyfile(face_photos[1], tmp_path / entry.file)
    with pytest.raises(
        DataError, match=rf"{entry.file} has the sha256 .* lists has {entry.digest[:12]}.*Give the folder of which"
    ):
        PhotoDataset(listed.people, tmp_path).open_with_central_face(entry)
