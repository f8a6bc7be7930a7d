"""Candidates: what is measured on an image, and in which order images come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tenth.core.errors import IdentityError, ModelError
from tenth.core.types import Face, Identity, Photo, Pixels, Sample
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.faces.detection import find_faces
from tenth.data.photo import open_photo
from tenth.evaluation import candidates
from tenth.evaluation.candidates import (
    CandidateFigures,
    ReferenceFaces,
    embed_faces,
    measure_candidates,
    rank_candidates,
    rank_samples,
)
from tenth.models.encoders.dlib_face import FaceEncoder
from tenth.models.pocket.loader import read_statistics
from tenth.models.pocket.paths import MODEL_DIR, STATISTICS_PATH

GOOD = CandidateFigures(identity=0.5, sharpness=60.0, face_score=1.5, face_cut=False, nearest_photo_bits=190)
NOISE = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)


@pytest.fixture(scope="module")
def photos(face_photos: list[Path]) -> list[Photo]:
    opened = [open_photo(path) for path in face_photos]
    return [replace(photo, face=find_faces(photo.pixels)[0]) for photo in opened]


@pytest.fixture(scope="module")
def references(photos: list[Photo]) -> ReferenceFaces:
    return ReferenceFaces.from_photos(photos[1:])


def encoder() -> FaceEncoder:
    return FaceEncoder(*read_statistics(MODEL_DIR / STATISTICS_PATH))


def test_embeddings_are_those_of_dlib_s_own_network(photos: list[Photo]) -> None:
    mean = read_statistics(MODEL_DIR / STATISTICS_PATH)[0].double()
    for photo in photos[:3]:
        assert photo.face is not None
        expected = torch.from_numpy(face_descriptor(photo)) - mean
        (found,) = embed_faces([(photo.pixels, photo.face)])
        assert torch.allclose(found, expected / expected.norm(), atol=1e-5)


def test_a_new_photo_of_the_person_is_like_the_others_and_no_copy(photos: list[Photo], references: ReferenceFaces) -> None:
    new, copied = measure_candidates([photos[0].pixels, photos[1].pixels], references)
    assert new.is_whole
    assert not new.is_copy
    assert new.identity is not None
    assert 0.5 < new.identity < 1
    assert copied.is_copy
    assert copied.nearest_photo_bits is not None
    assert copied.nearest_photo_bits <= 16  # of 512: a face may be found a pixel apart


def test_an_image_without_a_face_has_no_figures_and_comes_last(photos: list[Photo], references: ReferenceFaces) -> None:
    figures = measure_candidates([NOISE, photos[0].pixels], references)
    assert figures[0] == CandidateFigures()
    assert rank_candidates(figures) == [1, 0]


def test_a_face_at_the_border_is_cut(monkeypatch: pytest.MonkeyPatch, photos: list[Photo], references: ReferenceFaces) -> None:
    face = photos[0].face
    assert face is not None
    for box, cut in ((face.box, False), ((-1, *face.box[1:]), True), ((*face.box[:3], 129), True)):
        moved = Face(box, face.landmarks)
        monkeypatch.setattr(candidates, "_largest_face", lambda _, moved=moved: (moved, 1.0))
        assert measure_candidates([photos[0].pixels], references)[0].face_cut is cut


@pytest.mark.parametrize(
    "worse",
    [
        {"identity": 0.45},
        {"sharpness": 30.0},
        {"face_score": 0.7},
        {"nearest_photo_bits": 150},
        {"nearest_photo_bits": 64, "identity": 0.9},
        {"face_cut": True, "identity": 0.9},
        {"face_score": 0.4, "identity": 0.9},
    ],
    ids=str,
)
def test_what_is_worse_in_one_thing_comes_later(worse: dict[str, float]) -> None:
    figures = [replace(GOOD, **worse), GOOD]
    assert rank_candidates(figures) == [1, 0]
    assert rank_candidates(figures[::-1]) == [0, 1]


def test_equal_images_keep_their_order_and_more_sharpness_than_a_photo_s_is_no_gain() -> None:
    assert rank_candidates([GOOD] * 3) == [0, 1, 2]
    assert rank_candidates([replace(GOOD, sharpness=160.0), replace(GOOD, sharpness=5000.0)]) == [0, 1]


def test_samples_come_with_their_figures_the_best_first(photos: list[Photo]) -> None:
    def sample(pixels: Pixels, seed: int) -> Sample:
        return Sample(pixels, "a photo", seed, "ip-adapter", "toy@0", {}, 0.0)

    ranked = rank_samples([sample(NOISE, 0), sample(photos[0].pixels, 1)], photos[1:])
    assert [each.sample.seed for each in ranked] == [1, 0]
    assert ranked[0].figures.is_whole
    assert rank_samples([], photos) == []


def test_an_identity_of_the_face_encoder_stands_for_its_photos(photos: list[Photo]) -> None:
    embeddings = encoder()(photos[1:]).mean(0, keepdim=True)
    identity = Identity("ip-adapter-avg", "pocket@0", "dlib@0", "adapter@0", embeddings)
    (figures,) = measure_candidates([photos[0].pixels], ReferenceFaces.from_identity(identity, encoder()))
    assert figures.identity is not None
    assert figures.identity > 0.5
    assert figures.nearest_photo_bits is None
    assert figures.is_whole


def test_an_identity_without_faces_says_what_is_missing() -> None:
    for identity, mean in (
        (Identity("dreambooth", "pocket@0", "dlib@0", "", weights={"a": torch.ones(1)}), torch.zeros(128)),
        (Identity("ip-adapter", "sd15@0", "clip@0", "adapter@0", torch.ones(1, 1024)), None),
    ):
        reader = encoder()
        reader.dlib_mean = mean
        with pytest.raises(IdentityError, match=r"the person's photos are needed .* Give the folder of photos"):
            ReferenceFaces.from_identity(identity, reader)


def test_without_the_recognizer_s_weights_the_error_says_what_to_install(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenth.data.faces.detection.find_spec", lambda _: None)
    candidates._recognizer.cache_clear()
    with pytest.raises(ModelError, match=r"face-recognition-models is not installed; .* Run `pip install"):
        ReferenceFaces.from_photos(photos)
