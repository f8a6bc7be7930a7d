"""Faces are found, cropped the same wherever they stand, and told apart from copies and blur."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from pathlib import Path

import dlib
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from tenth.core.errors import ModelError
from tenth.core.files.reading import sha256_of
from tenth.core.types import Face, Photo, Pixels
from tenth.data.faces import detection as faces_module
from tenth.data.faces.detection import (
    CROP_SIZE,
    DETECTOR_PATH,
    NEAR_DUPLICATE_BITS,
    crop_face,
    detect_faces,
    face_model_path,
    face_width,
    find_faces,
    hash_distance,
    near_duplicate_hash,
    sharpness,
)
from tenth.data.photo import open_photo


def picture(path: Path, side: int = 128) -> Image.Image:
    return Image.open(path).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def on_canvas(image: Image.Image, place: tuple[int, int], size: tuple[int, int] = (400, 300)) -> Pixels:
    canvas = Image.new("RGB", size, (120, 120, 120))
    canvas.paste(image, place)
    return np.asarray(canvas)


def crop_of(image: Image.Image) -> Pixels:
    pixels = np.asarray(image)
    return crop_face(pixels, find_faces(pixels)[0])


def test_a_face_is_found_where_it_is(face_photos: list[Path]) -> None:
    alone = find_faces(np.asarray(picture(face_photos[0])))
    moved = find_faces(on_canvas(picture(face_photos[0]), (200, 100)))
    assert len(alone) == len(moved) == 1
    shift = moved[0].landmarks - alone[0].landmarks  # (5, 2)
    assert np.abs(shift - (200, 100)).max() < 6  # pixels; the two are looked for at different scales
    left, top, right, bottom = moved[0].box
    assert 200 < left < right < 328
    assert 100 < top < bottom < 228
    assert face_width(moved[0]) == right - left


def test_landmarks_are_in_the_order_that_types_promise(face_photos: list[Path]) -> None:
    outer_right, inner_right, outer_left, inner_left, nose = find_faces(np.asarray(picture(face_photos[0])))[0].landmarks
    assert outer_left[0] < inner_left[0] < inner_right[0] < outer_right[0]
    assert inner_left[0] < nose[0] < inner_right[0]
    assert nose[1] > max(inner_left[1], inner_right[1])


def test_the_largest_face_comes_first(face_photos: list[Path]) -> None:
    canvas = Image.fromarray(on_canvas(picture(face_photos[0], 100), (0, 0)))
    canvas.paste(picture(face_photos[1], 200), (190, 50))
    first, second = find_faces(np.asarray(canvas))
    assert face_width(first) > face_width(second)
    assert first.box[0] > 190


def test_no_face() -> None:
    assert find_faces(np.full((90, 160, 3), 127, np.uint8)) == []
    assert find_faces(np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype=np.uint8)) == []


def test_a_crop_is_upright(face_photos: list[Path]) -> None:
    image = picture(face_photos[0], 256)
    eyes = find_faces(crop_of(image.rotate(15, Image.Resampling.BICUBIC)))[0].landmarks[[0, 2]]
    slope = np.degrees(np.arctan2(*(eyes[0] - eyes[1])[::-1]))
    assert abs(slope) < 6  # degrees; the landmarks of a small face jump by some
    assert crop_of(image).shape == (CROP_SIZE, CROP_SIZE, 3)


@pytest.mark.parametrize("place", [(1, 3), (151, 89), (272, 171)])
def test_a_crop_depends_on_the_surroundings_alone(face_photos: list[Path], place: tuple[int, int]) -> None:
    canvas = on_canvas(picture(face_photos[0]), place)
    (face,) = find_faces(canvas)
    landmarks = face.landmarks.round()  # halves are rounded to even, wherever that is
    larger = np.pad(canvas, ((400, 400), (300, 300), (0, 0)), mode="edge")
    left, top, right, bottom = face.box
    moved = Face((left + 300, top + 400, right + 300, bottom + 400), np.add(landmarks, (300, 400)))
    assert np.array_equal(crop_face(canvas, Face(face.box, landmarks)), crop_face(larger, moved))


@pytest.mark.slow
def test_threads_find_what_one_thread_finds(face_photos: list[Path]) -> None:
    photos = [np.asarray(picture(path, 256)) for path in face_photos] * 2
    alone = [find_faces(pixels) for pixels in photos]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(find_faces, photos))
    assert [[face.box for face in faces] for faces in together] == [[face.box for face in faces] for faces in alone]
    assert all(np.array_equal(a[0].landmarks, b[0].landmarks) for a, b in zip(alone, together, strict=True))


def test_the_detector_is_dlibs_own(tmp_path: Path, face_photos: list[Path]) -> None:
    own = dlib.get_frontal_face_detector()
    own.save(str(tmp_path / "own.svm"))
    assert (tmp_path / "own.svm").read_bytes() == DETECTOR_PATH.read_bytes()
    pixels = np.asarray(picture(face_photos[0], 400))
    boxes, scores, _ = own.run(pixels, 0)
    found = detect_faces(pixels, 1)
    assert [detection.score for detection in found] == list(scores)
    assert [detection.face.box for detection in found] == [(b.left(), b.top(), b.right(), b.bottom()) for b in boxes]
    assert len(found) == 1


def test_a_crop_at_the_border_repeats_it() -> None:
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[:, :3], pixels[:, -3:] = (200, 0, 0), (0, 0, 200)
    eyes = [(60.0, 22.0), (50.0, 22.0), (20.0, 22.0), (30.0, 22.0), (40.0, 40.0)]
    crop = crop_face(pixels, Face((5, 0, 75, 60), np.array(eyes)), size=64, padding=1.0)
    assert crop.shape == (64, 64, 3)
    assert crop[32, 0].tolist() == [200, 0, 0]
    assert crop[32, -1].tolist() == [0, 0, 200]


def copies(image: Image.Image) -> dict[str, Image.Image]:
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=40)
    width, height = image.size
    return {
        "jpeg": Image.open(jpeg).convert("RGB"),
        "larger": image.resize((width * 2, height * 2), Image.Resampling.BICUBIC),
        "brighter": ImageEnhance.Brightness(image).enhance(1.15),
        "cropped": image.crop((5, 4, width - 3, height - 6)),
    }


def test_copies_are_near_duplicates(face_photos: list[Path]) -> None:
    distances = []
    for path in face_photos[:3]:
        own = near_duplicate_hash(crop_of(picture(path)))
        distances += [hash_distance(own, near_duplicate_hash(crop_of(copy))) for copy in copies(picture(path)).values()]
        assert hash_distance(own, own) == 0
    assert max(distances) <= NEAR_DUPLICATE_BITS
    assert max(distances) > 0


def test_different_photos_are_not_near_duplicates(face_photos: list[Path]) -> None:
    hashes = [near_duplicate_hash(crop_of(picture(path))) for path in face_photos]
    assert min(hash_distance(one, other) for one, other in combinations(hashes, 2)) > NEAR_DUPLICATE_BITS
    assert all(0 <= value < 1 << 512 for value in hashes)


def test_near_duplicate_hash_by_hand() -> None:
    ramp = np.repeat(np.arange(0, 255, 2, dtype=np.uint8)[None, :, None], 128, 0).repeat(3, 2)  # brighter to the right
    bits = near_duplicate_hash(ramp)
    assert bits >> 256 == (1 << 256) - 1  # every pixel is brighter than the one left of it
    assert bits & ((1 << 256) - 1) == 0  # and none than the one above


def test_sharpness_falls_with_blur(face_photos: list[Path]) -> None:
    for path in face_photos:
        image = picture(path)
        found = [sharpness(np.asarray(image.filter(ImageFilter.GaussianBlur(sigma)))) for sigma in (0, 1, 2, 4)]
        assert found == sorted(found, reverse=True)
        assert found[0] > 3 * found[2]
    assert sharpness(np.full((128, 128, 3), 90, np.uint8)) == 0


def test_sharpness_by_hand() -> None:
    board = np.indices((8, 8)).sum(axis=0) % 2 * 10
    crop = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    assert sharpness(crop) == 40.0**2  # the Laplacian is +40 and -40 by turns


def test_missing_models_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces_module, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match="pip install face-recognition-models"):
        face_model_path("any.dat")


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_predictor_that_is_not_for_commerce_is_never_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face_photos: list[Path]
) -> None:
    """Everything works where of the models only the detector's five points and the recognizer are there."""
    from tenth.data.faces import descriptors as recognizer

    faces = faces_module
    for name in ("shape_predictor_5_face_landmarks.dat", recognizer.RECOGNIZER_WEIGHTS):
        (tmp_path / name).symlink_to(faces.face_model_path(name))
    for module in (faces, recognizer):
        monkeypatch.setattr(module, "face_model_path", lambda name: tmp_path / name)
    cached = (faces._landmark_predictor, recognizer._recognizer, recognizer.encoder_name)
    try:
        for function in cached:
            function.cache_clear()
        pixels = open_photo(face_photos[0]).pixels
        found = faces.find_faces(pixels)
        assert recognizer.face_descriptor(Photo(pixels, "", face=found[0])).shape == (128,)
    finally:
        for function in cached:
            function.cache_clear()
