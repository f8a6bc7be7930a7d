"""Face quality: the metric by hand, and a tiny ONNX network whose number is known."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tenth.core.errors import DataError, ModelError
from tenth.core.types import Face, Features
from tenth.evaluation.extractors.face_quality import FaceQuality, load_face_quality
from tenth.evaluation.extractors.face_recognizer import OnnxFaceRecognizer
from tenth.evaluation.extractors.recognizer_config import read_recognizer_config
from tenth.evaluation.metrics.face_quality import face_quality
from toy_onnx import POINTS, mean_of_crop, several_outputs


def write(folder: Path, network: bytes) -> Path:
    """eDifFIQA's settings but for the size, without the names of input and output."""
    (folder / "quality.onnx").write_bytes(network)
    (folder / "quality.toml").write_text(f"""
name = "quality"
model = "quality.onnx"
sha256 = "{hashlib.sha256(network).hexdigest()}"
size = [16, 16]
mean = 127.5
scale = 127.5
template = {POINTS}
flip = false
border = 0

[detector]
type = "dlib"
""")
    return folder / "quality.toml"


def quality(folder: Path, *, batch: int | None = None) -> FaceQuality:
    """With a detector that sees the upper left corner of every image that is not black."""
    settings = read_recognizer_config(write(folder, mean_of_crop(batch)))

    def detector(pixels):
        return [Face((0, 0, 16, 16), np.array(POINTS))] * int(pixels.max() > 0)

    return FaceQuality(OnnxFaceRecognizer(settings, detector=detector))


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (20, 30, 3), dtype=np.uint8)


def score(values: list[float], people: str) -> object:
    rows = Features(np.array(values)[:, None], tuple(people))
    return face_quality(generated=rows, held_out=rows)


@pytest.mark.parametrize("batch", [None, 1])
def test_it_is_the_networks_number_of_the_aligned_face(tmp_path: Path, batch: int | None) -> None:
    """Also by a network that takes one face at a time, as a file may say."""
    network = quality(tmp_path, batch=batch)
    rows = network([picture(0), np.zeros((20, 30, 3), np.uint8), picture(1)])
    expected = [picture(seed)[:16, :16].mean() / 127.5 - 1 for seed in (0, 1)]
    assert (rows.shape, network.feature_dim) == ((3, 1), 1)
    np.testing.assert_allclose(rows[[0, 2], 0], expected, atol=1e-6)  # not scaled to length 1
    assert np.isnan(rows[1]).all()
    assert network.name.startswith("face-quality-quality@")


def test_a_network_of_several_numbers_or_outputs_is_refused(tmp_path: Path) -> None:
    text = write(tmp_path, mean_of_crop(None)).read_text().replace("flip = false", "flip = true")
    (tmp_path / "quality.toml").write_text(text)
    with pytest.raises(ModelError, match="gives 2 numbers for each face"):
        load_face_quality(tmp_path / "quality.toml")
    with pytest.raises(ModelError, match="does not fit: it has several inputs or outputs"):
        load_face_quality(write(tmp_path, several_outputs()))


def test_the_score_is_a_mean_over_people_of_images_with_a_face() -> None:
    found = score([0.2, 0.4, np.nan, 0.9, np.nan], "aaabc")
    assert found.value == pytest.approx((0.3 + 0.9) / 2, abs=1e-12)
    assert (found.n, found.low <= found.value <= found.high) == (2, True)
    assert score([0.9, 0.4, 0.2], "baa").value == pytest.approx(0.6, abs=1e-12)


def test_anchor_real_photos_have_their_own_mean_and_nobody_has_none() -> None:
    assert score([0.5] * 6, "aabbcc").value == pytest.approx(0.5, abs=1e-12)
    assert score([np.nan, np.nan], "ab").unavailable == "no generated image has a face"


def test_rows_of_another_kind_are_refused() -> None:
    for rows, people in ((np.zeros((2, 3)), "ab"), (np.zeros((3, 1)), "ab"), (np.zeros(2), "ab")):
        side = Features(rows, tuple(people))
        with pytest.raises(DataError, match="one number per image is needed"):
            face_quality(generated=side, held_out=side)
