from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError, PhotoError
from tenth.evaluation.image_set import list_images


def save(path: Path, size: tuple[int, int] = (8, 6), colour: str = "grey") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_a_flat_folder_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name, colour in (("10.png", "white"), ("2.JPG", "black"), ("3.webp", "grey")):
        save(tmp_path / name, colour=colour)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / ".hidden.png").write_text("")
    folder = list_images(tmp_path)
    assert [path.name for path in folder.paths] == ["2.JPG", "3.webp", "10.png"]
    assert folder.people == ("", "", "")
    assert folder.is_flat
    assert [int(picture.mean()) for picture in folder] == [0, 128, 255]
    assert [picture.shape for picture in folder] == [(6, 8, 3)] * 3
    (note,) = folder.notes([(8, 6)])
    assert "left out: 2 (.hidden.png, run.json)" in note


def test_a_folder_for_each_person(tmp_path: Path) -> None:
    for name in ("ben/0.png", "anna/0.png", "anna/1.png"):
        save(tmp_path / name)
    folder = list_images(tmp_path)
    assert folder.people == ("anna", "anna", "ben")
    assert not folder.is_flat


def test_what_is_an_image_goes_by_content_where_the_name_does_not_say(tmp_path: Path) -> None:
    for name in ("0.jfif", "1", "2.jpe", "3.download"):
        save(tmp_path / "photo.jpg").rename(tmp_path / name)
    (tmp_path / "notes").write_text("no image")
    (tmp_path / "1.caption").write_text("a photo of a person")
    (tmp_path / "2.txt").write_text("a photo of a person")
    (tmp_path / "lone.caption").write_text("a photo of a person")
    folder = list_images(tmp_path)
    assert [path.name for path in folder.paths] == ["0.jfif", "1", "2.jpe", "3.download"]
    assert [picture.shape for picture in folder] == [(6, 8, 3)] * 4
    assert folder.ignored == ("lone.caption", "notes")  # the others are captions of images


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_image_and_not_waited_for(tmp_path: Path) -> None:
    save(tmp_path / "0.png")
    save(tmp_path / "1.png")
    os.mkfifo(tmp_path / "2")
    assert list_images(tmp_path).ignored == ("2",)


def test_several_sizes_are_said(tmp_path: Path) -> None:
    save(tmp_path / "0.png", (8, 6))
    save(tmp_path / "1.png", (20, 10))
    folder = list_images(tmp_path)
    assert [picture.shape for picture in folder] == [(6, 8, 3), (10, 20, 3)]
    (note,) = folder.notes([(8, 6), (20, 10)])
    assert "2 sizes, 8 to 20 x 6 to 10 pixels" in note


@pytest.mark.parametrize(("count", "found"), [(0, "has no images"), (1, "has 1 image ")])
def test_too_few_images(tmp_path: Path, count: int, found: str) -> None:
    (tmp_path / "notes.txt").write_text("")
    for number in range(count):
        save(tmp_path / f"{number}.png")
    with pytest.raises(DataError, match=f"{found}.*at least 2 are needed"):
        list_images(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list_images(tmp_path / "gone")
    with pytest.raises(DataError, match="is a file"):
        list_images(save(tmp_path / "0.png"))


def test_images_beside_folders_of_images(tmp_path: Path) -> None:
    save(tmp_path / "0.png")
    save(tmp_path / "anna" / "0.png")
    with pytest.raises(DataError, match="images beside folders with images"):
        list_images(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "not-a-photo", "empty"])
def test_a_damaged_image_is_named_with_its_folder(tmp_path: Path, damage: str) -> None:
    save(tmp_path / "anna" / "0.png")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "anna" / "1.png")
    content = (tmp_path / "anna" / "1.png").read_bytes()
    (tmp_path / "anna" / "1.png").write_bytes({"truncated": content[:500], "not-a-photo": b"no image", "empty": b""}[damage])
    pictures = iter(list_images(tmp_path))
    assert next(pictures).shape == (6, 8, 3)
    with pytest.raises(PhotoError, match=r"anna/1\.png") as raised:
        next(pictures)
    assert raised.value.code == damage


def test_the_sheet_and_the_candidates_of_a_run_are_none_of_its_images(tmp_path: Path) -> None:
    for name in ("run/0000.png", "run/0001.png", "run/sheet.png", "run/candidates/0000.png", "own/sheet.png", "own/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "run" / "run.json").write_text("{}")
    found = list_images(tmp_path / "run")
    assert [path.name for path in found.paths] == ["0000.png", "0001.png"]
    assert found.ignored == ("run.json",)
    assert len(list_images(tmp_path / "own")) == 2
    assert len(list_images(tmp_path)) == 4
