"""Compiled networks against the exact ones, within the tolerances that they state."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tenth.core.errors import ModelError
from tenth.core.types import Pixels
from tenth.data.photo import open_photo
from tenth.evaluation.extractors import openvino_networks as module
from tenth.evaluation.extractors.face_recognizer import dlib_recognizer
from tenth.evaluation.extractors.inception import features_of
from tenth.evaluation.extractors.inception_weights import random_inception
from tenth.evaluation.extractors.openvino_networks import FastDlibRecognizer, FastInception
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

pytest.importorskip("openvino", reason="tenth[fast] is not installed")


def photos(count: int = 2) -> list[Pixels]:
    return [open_photo(path).pixels for path in sorted(EXAMPLE_PHOTOS_DIR.glob("*.*"))[:count]]


def test_inception_s_features_are_within_a_hundredth() -> None:
    exact = random_inception("0")
    fast = FastInception(exact)
    expected, rows = exact(photos()), fast(photos())
    assert rows.shape == expected.shape
    error = np.linalg.norm(features_of(rows - expected)) / np.linalg.norm(features_of(expected))
    assert error < 0.01
    assert fast.name.startswith(f"{exact.name}-openvino-")
    assert (fast.disclaimer, fast([]).shape) == (exact.disclaimer, (0, 3056))


def test_dlib_s_rows_are_within_1e_4_and_nan_without_a_face() -> None:
    images = [photos(1)[0], np.full((64, 64, 3), 128, np.uint8), *photos(2)[1:]]
    exact = dlib_recognizer()
    fast = FastDlibRecognizer(exact)
    rows = fast(images)
    assert np.isnan(rows[1]).all()
    np.testing.assert_allclose(rows[[0, 2]], exact(images)[[0, 2]], rtol=0, atol=1e-4)
    assert fast.name == f"{exact.name}-openvino-fp32"


def test_without_openvino_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_available", lambda: False)
    with pytest.raises(ModelError, match=r"pip install 'tenth\[fast\]'"):
        module.CompiledNetwork(torch.nn.Identity(), 8, "fp32")
