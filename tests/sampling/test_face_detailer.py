"""The face pass: which faces are drawn again, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.data.faces.detection import find_faces
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.passes.face_detailer import detail_face, face_crop_box, feather_mask
from tenth.sampling.passes.hires import HiresConfig
from tenth.sampling.sampler import SamplingBatch
from toy_sizes import PROMPT, max_difference, noise_image


@pytest.fixture(scope="module")
def pocket() -> Any:
    return load_model("pocket")


def scene_with_a_face(photo: Path, side: int, at: tuple[int, int] = (40, 30)) -> Any:
    """A smooth picture of 160 x 192 with a face photo of `side` pixels at x, y."""
    across, down = np.meshgrid(np.linspace(40, 200, 192), np.linspace(60, 160, 160))
    scene = Image.fromarray(np.stack([across, down, (across + down) / 2], -1).astype(np.uint8))
    with Image.open(photo) as face:
        scene.paste(face.convert("RGB").resize((side, side)), at)
    return np.asarray(scene).astype(np.float32) / 255


def test_a_small_face_is_found_to_be_generated_again_and_a_large_one_is_not(toy_model: Any, face_photos: list[Path]) -> None:
    image = scene_with_a_face(face_photos[0], 50)
    square = face_crop_box(toy_model, image)
    assert square is not None
    left, top, side = square
    face = find_faces(np.rint(image * 255).astype(np.uint8))[0]
    assert side % 8 == 0
    assert side <= 64  # half of the model's side
    assert left <= face.box[0] < face.box[2] <= left + side
    assert top <= face.box[1] < face.box[3] <= top + side
    large = scene_with_a_face(face_photos[0], 120)
    assert face_crop_box(toy_model, large) is None
    assert face_crop_box(toy_model, large, force=True) is not None
    edge = face_crop_box(toy_model, scene_with_a_face(face_photos[0], 50, (142, 110)))
    assert edge is not None
    assert edge[0] + edge[2] <= 192
    assert edge[1] + edge[2] <= 160
    assert face_crop_box(toy_model, np.zeros((64, 64, 3), np.float32), force=True) is None


@pytest.mark.parametrize("side", [64, 136])
def test_outside_the_redrawn_square_nothing_changes_and_there_is_no_seam(toy_model: Any, side: int) -> None:
    """The toy model draws noise, which a seam would show."""
    left, top, image = 40, 24, noise_image(2, 256, 320) * 0.2 + 0.4
    sampling = SamplingConfig(steps=2)
    new = detail_face(SamplingBatch(toy_model, sampling, [PROMPT], [1]), image, (left, top, side), 0.5)
    inside = np.zeros(image.shape[:2], bool)
    inside[top + 1 : top + side - 1, left + 1 : left + side - 1] = True  # the square's border counts nothing yet
    assert np.array_equal(new[~inside], image[~inside])
    middle = (slice(top + side // 4, top + side * 3 // 4), slice(left + side // 4, left + side * 3 // 4))
    assert np.abs(new[middle] - image[middle]).mean() > 0.05
    for axis, edges in ((0, (top, top + side - 1)), (1, (left, left + side - 1))):
        steps = [np.abs(np.diff(picture_, axis=axis)) for picture_ in (new, image)]
        for edge in edges:
            across = [np.take(step, range(edge - 2, edge + 2), axis=axis) for step in steps]
            assert (across[0] - across[1]).max() < 2 / 255


def test_the_feather_is_nothing_at_the_border_and_all_in_the_middle() -> None:
    share = feather_mask(64)
    assert share.shape == (64, 64)
    assert np.array_equal(share, share.T)
    assert np.array_equal(share, share[::-1, ::-1])
    assert share[0].max() == share[:, -1].max() == 0
    assert (share[16:48, 16:48] == 1).all()
    assert np.abs(np.diff(share[32])).max() < 0.1


def test_a_face_pass_of_the_real_model(pocket: Any) -> None:
    request = Request(None, "a portrait photo of a smiling woman", 1)
    sampling = SamplingConfig(steps=8)
    plain, again = (
        next(generate(pocket, [request], sampling, hires=HiresConfig(128, 128, strength, face_pass)))
        for strength, face_pass in ((None, False), (0.25, True))
    )
    assert (plain.settings["face_detailed"], again.settings["face_detailed"]) == (False, True)
    square = face_crop_box(pocket, plain.pixels.astype(np.float32) / 255, force=True)
    assert square is not None
    left, top, side = square
    same = (plain.pixels == again.pixels).all(-1)
    same[top : top + side, left : left + side] = True
    assert same.all()
    assert max_difference(plain, again) > 3
