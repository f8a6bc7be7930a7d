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
from tenth.data.faces.detection import crop_face, face_width
from tenth.data.photo_folder import UNDECIDED, inspect_folder, read_person, to_person
from tenth.data.photo_notes import photo_notes
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate

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


PLAIN = (1.0, 1.0, 1.0)
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
    assert "though 2 photos have a larger face beside; crop the photos if that is somebody else" in said[0]


def test_one_line_for_each_matter_not_one_a_photo(tmp_path: Path, face_photos: list[Path]) -> None:
    names = fill(tmp_path, face_photos, 8)
    (tmp_path / "letter.txt").write_text("dear")
    rows: Rows = {name: [float(number)] for number, name in enumerate(names)}
    rows |= {"0.png": [0.0], "1.png": [0.1], "2.png": [0.2]}
    notes = photo_notes(inspect_folder(tmp_path, descriptor=by_file(rows)))
    assert notes[0].startswith("only 3 of 8 photos show the person who is taken, the others somebody else")
    assert notes[1] == "3.png, 4.png, 5.png, and 2 more: not used (other-person)"
    assert notes[2] == "letter.txt: not used (not-a-photo)"
    assert len(notes) == len({note.rpartition(":")[2] for note in notes})


def test_nine_different_people_are_nobodys_folder(tmp_path: Path, face_photos: list[Path]) -> None:
    names = fill(tmp_path, face_photos, 9)
    rows: Rows = {name: [float(number)] for number, name in enumerate(names)} | {"1.png": [0.5]}  # two look alike
    with pytest.raises(DataError, match="nobody clearly more often"):
        read_person(tmp_path, descriptor=by_file(rows))


@pytest.mark.slow
def test_a_person_who_always_stands_beside_a_larger_stranger(tmp_path: Path, face_photos: list[Path]) -> None:
    """With dlib's own descriptors: the example person beside five people who do not exist either."""
    prompts = ("an old man", "a young woman with blond hair", "a man with a beard", "a black woman", "a bald man")
    requests = [Request(None, f"a photo of {prompt}", 100 + index) for index, prompt in enumerate(prompts)]
    for index, sample in enumerate(generate(load_model(), requests, SamplingConfig())):
        Image.fromarray(sample.pixels).save(tmp_path / "stranger.png")
        shown(tmp_path, f"{index}.png", (tmp_path / "stranger.png", PLAIN, 280), (face_photos[index], PLAIN, 150))
    (tmp_path / "stranger.png").unlink()
    verdicts = inspect_folder(tmp_path)
    person = to_person(verdicts, "me")
    assert [photo.file for photo in person.photos] == [f"{index}.png" for index in range(5)]
    widths = [face_width(photo.face) for photo in person.photos if photo.face is not None]
    assert max(widths) < 130, widths  # a stranger's has twice as much
    assert len([note for note in photo_notes(verdicts) if "though 5 photos have a larger face beside" in note]) == 1


def test_two_people_who_are_always_together(tmp_path: Path, face_photos: list[Path]) -> None:
    for number in range(3):
        shown(tmp_path, f"{number}.png", (face_photos[number], RED, 240), (face_photos[number + 3], BLUE, 150))
    verdicts = inspect_folder(tmp_path, descriptor=colour)
    assert [verdict.code for verdict in verdicts] == ["ok"] * 3
    assert all(verdict.photo is not None and colour(verdict.photo)[0] > 1 for verdict in verdicts)  # whose face is larger
    assert sum("several faces" in warning for verdict in verdicts for warning in verdict.warnings) == 1
