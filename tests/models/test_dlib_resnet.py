"""dlib's recognizer in torch: the descriptors of dlib itself, and gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tenth.core.errors import ModelError
from tenth.core.types import Photo
from tenth.data.faces.crops import to_minus_one_one
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.faces.detection import crop_face, find_faces
from tenth.data.photo import open_photo
from tenth.models.encoders.dlib_resnet import crops_to_chips, load_dlib_net
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR


def nobody() -> list[Photo]:
    photos = [open_photo(path) for path in sorted(EXAMPLE_PHOTOS_DIR.glob("*.*"))[:3]]
    return [Photo(photo.pixels, "", face=find_faces(photo.pixels)[0]) for photo in photos]


def batch(pixels: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float()


def test_it_gives_dlib_s_own_descriptors() -> None:
    photos = nobody()
    chips = batch([crop_face(photo.pixels, photo.face, size=150, padding=0.25) for photo in photos if photo.face])
    with torch.no_grad():
        ours = load_dlib_net()(chips).numpy()
    np.testing.assert_allclose(ours, np.stack([face_descriptor(photo) for photo in photos]), atol=1e-5)


def test_the_middle_of_a_crop_is_nearly_the_photo_s_chip() -> None:
    photos = nobody()
    crops = batch([crop_face(photo.pixels, photo.face) for photo in photos if photo.face])
    with torch.no_grad():
        ours = load_dlib_net()(crops_to_chips(to_minus_one_one(crops))).numpy()
    theirs = np.stack([face_descriptor(photo) for photo in photos])
    assert np.linalg.norm(ours - theirs, axis=1).max() < 0.15  # of 0.6 between two people


def test_a_image_can_follow_its_gradient_towards_a_descriptor() -> None:
    net = load_dlib_net()
    assert not any(weights.requires_grad for weights in net.parameters())
    torch.manual_seed(0)
    crops = (torch.rand(1, 3, 128, 128) * 2 - 1).requires_grad_()
    wanted = net(torch.rand(1, 3, 150, 150) * 255)
    before = (net(crops_to_chips(crops)) - wanted).square().sum()
    (slope,) = torch.autograd.grad(before, crops)
    assert not slope[..., :16, :].any()  # the chip shows the middle alone
    after = (net(crops_to_chips(crops - 0.01 * slope / slope.abs().max())) - wanted).square().sum()
    assert after < before


def test_another_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for content in (b"", b"con_4", b"con_4\x01\x02\x01\x08\x01\x01\x01\x01\x01\x01affine_"):
        (tmp_path / "weights.dat").write_bytes(content)
        with pytest.raises(ModelError, match="not laid out as dlib's recognizer"):
            load_dlib_net(tmp_path / "weights.dat")
