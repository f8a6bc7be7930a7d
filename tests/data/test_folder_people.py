"""A folder with photos of several people: whose it is, what becomes of the others, and what is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.core.types import Photo
from tenth.data.faces.detection import crop_face
from tenth.data.photo_folder import UNDECIDED, inspect_folder, read_person

Rows = dict[str, list[float]]


def by_file(rows: Rows) -> Callable[[Photo], np.ndarray]:
    return lambda photo: np.array(rows[photo.file])


def fill(folder: Path, photos: list[Path], count: int) -> list[str]:
    names = [f"{number}.png" for number in range(count)]
    for name, path in zip(names, photos, strict=False):
        shutil.copy(path, folder / name)
    return names


def test_somebody_else_is_refused(tmp_path: Path, face_photos: list[Path]) -> None:
    names = fill(tmp_path, face_photos, 4)
    rows: Rows = {name: [0.1 * number, 0.0] for number, name in enumerate(names)} | {"2.png": [0.0, 1.0]}
    verdicts = inspect_folder(tmp_path, descriptor=by_file(rows))
    assert [verdict.code for verdict in verdicts] == ["ok", "ok", "other-person", "ok"]
    assert "remove it" in verdicts[2].reason


def test_two_that_disagree_are_refused(tmp_path: Path, face_photos: list[Path]) -> None:
    fill(tmp_path, face_photos, 2)
    verdicts = inspect_folder(tmp_path, descriptor=by_file({"0.png": [0.0], "1.png": [0.7]}))
    assert [verdict.code for verdict in verdicts] == [UNDECIDED, UNDECIDED]
    with pytest.raises(DataError, match="which one is meant cannot be told; one person who is in more photos") as caught:
        read_person(tmp_path, descriptor=by_file({"0.png": [0.0], "1.png": [0.7]}))
    assert "0.png" not in str(caught.value)
    agreed = inspect_folder(tmp_path, descriptor=by_file({"0.png": [0.0], "1.png": [0.5]}))
    assert [(verdict.code, verdict.warnings[:0]) for verdict in agreed] == [("ok", ())] * 2


def colour(photo: Photo) -> np.ndarray:
    """In place of dlib's descriptor: how red and how blue the face is."""
    assert photo.face is not None
    return crop_face(photo.pixels, photo.face)[32:96, 32:96].mean((0, 1))[[0, 2]] / 100


def tinted(path: Path, colour: tuple[float, float, float], side: int) -> Image.Image:
    pixels = np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)) * np.array(colour)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


RED, BLUE, GREEN = (1.0, 0.6, 0.4), (0.4, 0.6, 1.0), (0.4, 1.0, 0.4)


def shown(folder: Path, name: str, *faces: tuple[Path, tuple[float, float, float], int]) -> None:
    image = Image.new("RGB", (300 * len(faces), 300), (120, 120, 120))
    for place, face in enumerate(faces):
        image.paste(tinted(*face), (300 * place, 20))
    image.save(folder / name)


def test_the_most_frequent_person_is_taken_not_the_largest_face(tmp_path: Path, face_photos: list[Path]) -> None:
    one, two, three, four, five, six, *_ = face_photos
    shown(tmp_path, "1.png", (one, BLUE, 260), (two, RED, 150))
    shown(tmp_path, "2.png", (three, RED, 150), (four, GREEN, 260))
    shown(tmp_path, "3.png", (five, RED, 200))
    shown(tmp_path, "4.png", (six, BLUE, 200))
    verdicts = inspect_folder(tmp_path, descriptor=colour)
    assert [verdict.code for verdict in verdicts] == ["ok", "ok", "ok", "other-person"]
    for verdict in verdicts[:3]:
        assert verdict.photo is not None
        red, blue = colour(verdict.photo)
        assert red > 1.3 * blue
    said = [warning for verdict in verdicts for warning in verdict.warnings if "several faces" in warning]
    assert said == [verdicts[0].warnings[0]]  # once for the folder
    assert said[0].startswith("2 photos show several faces; taken is the person in 3 of 4 photos (the next is in 2)")


def test_two_people_who_are_always_together(tmp_path: Path, face_photos: list[Path]) -> None:
    for number in range(3):
        shown(tmp_path, f"{number}.png", (face_photos[number], RED, 240), (face_photos[number + 3], BLUE, 150))
    verdicts = inspect_folder(tmp_path, descriptor=colour)
    assert [verdict.code for verdict in verdicts] == ["ok"] * 3
    assert all(verdict.photo is not None and colour(verdict.photo)[0] > 1 for verdict in verdicts)  # whose face is larger
    assert sum("several faces" in warning for verdict in verdicts for warning in verdict.warnings) == 1
