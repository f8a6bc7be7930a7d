"""A people list and its photos: the photos are those that it lists, whatever they are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError
from tenth.data.faces.crops import PhotoDataset, load_face_crops
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
    with pytest.raises(DataError, match="has the sha256"):  # also where no face is looked for
        PhotoDataset(listed.people, tmp_path).open(entry)


def test_a_photo_that_is_gone_is_named_with_its_folder(face_photos: list[Path], tmp_path: Path) -> None:
    listed = photo_dataset(tmp_path, face_photos)
    entry = listed.entries("train")[0]
    moved = PhotoDataset(listed.people, tmp_path)
    for opened in (moved.open, moved.open_with_central_face):
        with pytest.raises(DataError, match=rf"{tmp_path / entry.file}: .*does not exist; .*Put it back"):
            opened(entry)
    with pytest.raises(DataError, match=r"none is no folder; .*Correct `photos`"):
        PhotoDataset(listed.people, tmp_path / "none").open(entry)


def test_a_split_without_a_face_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "1.png")
    dataset = photo_dataset(tmp_path, [tmp_path / "1.png"])
    with pytest.raises(DataError, match=r"no face in the 1 photo of train people of .*people\.jsonl; one is needed"):
        load_face_crops(dataset, "train", ArrayCache(tmp_path / "cache"))
