"""An image shown whole in a size of another shape: nothing of it is lost, and its edges go on."""

from __future__ import annotations

import numpy as np
import pytest

from tenth.sampling.passes.img2img import resize
from tenth.sampling.passes.padding import resize_and_pad
from tenth.sampling.passes.resolutions import Size

IMAGE = np.random.default_rng(0).random((16, 16, 3), np.float32)


@pytest.mark.parametrize("size", [Size(128, 192), Size(192, 128), Size(128, 136), Size(24, 16)], ids=str)
def test_the_whole_image_is_in_the_middle(size: Size) -> None:
    padded, side = resize_and_pad(IMAGE, size), min(size.width, size.height)
    left, top = (size.width - side) // 2, (size.height - side) // 2
    assert padded.shape == (size.height, size.width, 3)
    assert padded.dtype == np.float32
    inner = IMAGE if side == 16 else resize(IMAGE, side, side)
    np.testing.assert_array_equal(padded[top : top + side, left : left + side], inner)


def test_edges_go_on_without_a_seam_and_lose_their_detail() -> None:
    smooth = np.broadcast_to(np.linspace(0.2, 0.8, 16, dtype=np.float32)[:, None, None], (16, 16, 3))
    padded = resize_and_pad(smooth, Size(256, 128))
    np.testing.assert_allclose(padded[:, 63], padded[:, 64], atol=0.02)  # the last pixel outside, the first one inside
    noisy = resize_and_pad(IMAGE, Size(256, 128))
    inside, outside = noisy[:, 64:192].std(axis=0).mean(), noisy[:, 0].std(axis=0).mean()
    assert outside < 0.7 * inside


def test_one_color_stays_one_color() -> None:
    gray = np.full((8, 8, 3), 0.5, np.float32)
    assert np.abs(resize_and_pad(gray, Size(64, 32)) - 0.5).max() <= 1 / 255
