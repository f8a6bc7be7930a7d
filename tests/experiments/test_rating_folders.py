"""Folders of images that people choose between: odd names, foreign files, and two raters at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.experiments.rating.choices import ChoiceFile
from tenth.experiments.rating.pairs import list_pairs
from tenth.experiments.rating.study import StudyOptions, open_study
from toy_rating import rated_folders


def test_names_that_are_no_utf8_are_kept_readable(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    for system in (name, "two"):
        (tmp_path / system).mkdir()
        for image in (f"{name}.png", "0.png"):
            Image.new("RGB", (8, 8)).save(tmp_path / system / image)
    folders = (tmp_path / name, tmp_path / "two")
    study = open_study(folders, tmp_path / "out", StudyOptions())
    for index in range(2):
        study.choose(index, "left")
    assert open_study(folders, tmp_path / "out", StudyOptions()).num_chosen == 2
    assert study.systems == ("\N{REPLACEMENT CHARACTER}", "two")


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for image in ("one/0.png", "one/0.jpg", "two/0.png"):
        (tmp_path / image).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / image)
    with pytest.raises(DataError, match=r"0\.jpg and .*0\.png; one image of a name is needed"):
        list_pairs((tmp_path / "one", tmp_path / "two"))


def test_what_a_file_manager_leaves_is_no_photo(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    (tasks / "private/held-out/000/._00.png").touch()
    pairs, _ = list_pairs(folders, tasks)
    assert [path.name for path in pairs[0].photos] == ["00.png", "01.png"]


def test_another_rater_s_last_choice_is_kept(tmp_path: Path) -> None:
    folders, tasks = rated_folders(tmp_path)
    ben, anna = (open_study(folders, tmp_path / "out", StudyOptions(tasks, rater=name)) for name in ("ben", "anna"))
    anna.choose(0, "left")
    ben.choices.read()  # as `serve_rating` does, once nobody else can write
    ben.choose(0, "right")
    assert {each.rater for each in ChoiceFile(tmp_path / "out", ben.systems).all()} == {"anna", "ben"}
