"""Small faces in large photos, which a first look misses: found, measured and cut in the photo's own pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.data.faces import multiscale as closer
from tenth.data.faces.detection import crop_face, face_width, find_faces
from tenth.data.faces.multiscale import open_photo_with_faces
from tenth.data.photo import open_photo
from tenth.data.photo_folder import inspect_folder


def with_a_face(path: Path, face: Path, width: int, size: tuple[int, int], place: tuple[int, int]) -> Path:
    """A photo of nothing but blotches, with a face so many pixels wide."""
    picture = Image.open(face).convert("RGB")
    (found,) = find_faces(np.asarray(picture))
    side = round(picture.width * width / face_width(found))
    blotches = np.random.default_rng(1).integers(60, 190, (size[1] // 20, size[0] // 20, 3), dtype=np.uint8)
    photo = Image.fromarray(blotches).resize(size, Image.Resampling.BICUBIC)
    photo.paste(picture.resize((side, side), Image.Resampling.LANCZOS), place)
    photo.save(path, quality=95)
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("width", "place"), [(200, (2900, 300)), (40, (2350, 1130))])
def test_a_face_anywhere_in_twelve_megapixels(
    tmp_path: Path, face_photos: list[Path], width: int, place: tuple[int, int]
) -> None:
    path = with_a_face(tmp_path / "photo.jpg", face_photos[0], width, (4000, 3000), place)
    assert find_faces(open_photo(path).pixels) == []  # what the first look sees
    photo, faces = open_photo_with_faces(path)
    assert len(faces) == 1
    scale = 4000 / photo.pixels.shape[1]
    left, top, right, bottom = (edge * scale for edge in faces[0].box)
    assert 0.75 * width < right - left < 1.35 * width
    assert place[0] < (left + right) / 2 < place[0] + 2.2 * width
    assert place[1] < (top + bottom) / 2 < place[1] + 2.2 * width


@pytest.mark.slow
def test_a_small_face_is_used_in_the_pixels_of_its_file(tmp_path: Path, face_photos: list[Path]) -> None:
    path = with_a_face(tmp_path / "photo.jpg", face_photos[0], 85, (4000, 3000), (100, 2400))
    photo, faces = open_photo_with_faces(path)
    assert photo.pixels.shape == (3000, 4000, 3)
    (verdict,) = inspect_folder(tmp_path, descriptor=lambda _: np.zeros(128))
    assert verdict.code == "ok"
    assert verdict.photo is not None
    assert verdict.photo.face is not None
    kept = crop_face(verdict.photo.pixels, verdict.photo.face)
    assert np.array_equal(kept, crop_face(photo.pixels, faces[0]))


def test_a_small_face_in_a_photo_that_is_not_reduced(tmp_path: Path, face_photos: list[Path]) -> None:
    path = with_a_face(tmp_path / "photo.png", face_photos[1], 50, (1600, 1200), (500, 900))
    assert find_faces(open_photo(path).pixels) == []
    _, faces = open_photo_with_faces(path)
    assert [40 <= face_width(face) <= 62 for face in faces] == [True]


@pytest.mark.slow
def test_nothing_is_found_where_nobody_is(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((1600, 1200), 3).save(tmp_path / "photo.png")
    assert open_photo_with_faces(tmp_path / "photo.png")[1] == []


def test_a_face_that_is_found_at_once_is_not_looked_for_again(
    tmp_path: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_a_face(tmp_path / "photo.jpg", face_photos[0], 600, (4000, 3000), (1000, 800))
    monkeypatch.setattr(closer, "_detect_at_scales", None)
    monkeypatch.setattr(closer, "RETRY_PIXELS", None)
    photo, faces = open_photo_with_faces(path)
    assert len(faces) == 1
    assert photo.pixels.shape == (1536, 2048, 3)


@pytest.mark.slow
def test_a_face_on_the_border_of_two_tiles_is_one_face(
    tmp_path: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = with_a_face(tmp_path / "photo.png", face_photos[0], 60, (1200, 900), (360, 360))
    for tile in (500, 800, 850):
        monkeypatch.setattr(closer, "TILE_SIZE", tile)
        assert len(open_photo_with_faces(path)[1]) == 1
