"""Equality with torch-fidelity 0.4.0 on seeded random weights: the standard file is in no repository."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.core.types import FeatureArray, Features, Pixels
from tenth.evaluation.extractors.inception import INPUT_PIXELS, Inception, features_of, filter_shapes, logits_of, resize_tf1
from tenth.evaluation.extractors.inception_weights import random_inception, random_weights
from tenth.evaluation.metrics.frechet import fid
from tenth.evaluation.metrics.inception_score import inception_score
from tenth.evaluation.metrics.kid import kid

reference = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is not installed")
resizing = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")

IMAGES = 6  # on a side
SIZES = ((48, 48), (32, 64))


@pytest.fixture(scope="module")
def network() -> Inception:
    return random_inception("0")


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    """Two sides of blobs, the second in other colours and of two sizes."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (2 * IMAGES, 4, 4, 3), dtype=np.uint8)
    small[IMAGES:, ..., 0] //= 4
    sizes = [SIZES[0]] * IMAGES + [SIZES[index % 2] for index in range(IMAGES)]
    return [
        np.asarray(Image.fromarray(blobs).resize(size, Image.Resampling.BICUBIC))
        for blobs, size in zip(small, sizes, strict=True)
    ]


@pytest.fixture(scope="module")
def rows(network: Inception, pictures: list[Pixels]) -> FeatureArray:
    return network(pictures)


@pytest.fixture(scope="module")
def expected(pictures: list[Pixels], tmp_path_factory: pytest.TempPathFactory) -> FeatureArray:
    """What torch-fidelity gives for the same pictures, in batches of one size, by the same weights."""
    path: Path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(dict(random_weights(0)), path)
    kind: Any = reference.FeatureExtractorInceptionV3
    theirs = kind("inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path))
    path.unlink()
    found = np.empty((len(pictures), 3056))
    with torch.inference_mode():
        for shape in {picture.shape for picture in pictures}:
            places = [place for place, picture in enumerate(pictures) if picture.shape == shape]
            batch = torch.from_numpy(np.stack([pictures[place] for place in places])).permute(0, 3, 1, 2)
            found[places] = torch.cat(theirs(batch), 1).numpy()
    return found


def sides(rows: FeatureArray) -> dict[str, Features]:
    people = ("",) * IMAGES
    return {"generated": Features(rows[:IMAGES], people), "held_out": Features(rows[IMAGES:], people)}


def test_the_layout_is_the_standard_files() -> None:
    shapes = dict(filter_shapes())
    assert len(shapes) == 94
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 21_751_136  # of InceptionV3 without its classifier
    assert shapes["Mixed_6e.branch7x7dbl_5"] == (192, 192, 1, 7)
    assert shapes["Mixed_7c.branch_pool"] == (192, 2048, 1, 1)


@pytest.mark.slow
def test_rows_equal_torch_fidelitys(rows: FeatureArray, expected: FeatureArray) -> None:
    assert rows.shape == (2 * IMAGES, 3056)
    np.testing.assert_allclose(features_of(rows), features_of(expected), rtol=0, atol=1e-5)  # float32, about 0.2 each
    np.testing.assert_allclose(logits_of(rows), logits_of(expected), rtol=0, atol=1e-4)  # about 3 each
    assert features_of(expected).std(0).mean() > 0.01  # the random weights do tell pictures apart


def test_fid_and_inception_score_equal_those_of_torch_fidelitys_rows(rows: FeatureArray, expected: FeatureArray) -> None:
    ours, theirs = sides(features_of(rows)), sides(features_of(expected))
    assert fid(**ours).value == pytest.approx(fid(**theirs).value, rel=1e-6)
    scores = [inception_score(generated=Features(logits_of(each), ())).value for each in (rows, expected)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)
    assert kid(**ours).value == pytest.approx(kid(**theirs).value, abs=1e-6)


def test_a_row_does_not_depend_on_the_batch(network: Inception, pictures: list[Pixels], rows: FeatureArray) -> None:
    np.testing.assert_allclose(network([pictures[-1]]), rows[-1:], rtol=0, atol=1e-5)
    assert network([]).shape == (0, 3056)


def test_threads_are_as_before(network: Inception, pictures: list[Pixels]) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(TypeError):
        network([None, None])  # type: ignore[list-item]
    assert torch.get_num_threads() == threads
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == threads


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (128, 128), (299, 299), (640, 301)])
def test_resizing_gives_the_bits_of_torch_fidelity(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    batch = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    theirs = resizing.interpolate_bilinear_2d_like_tensorflow1x(batch, size=(INPUT_PIXELS, INPUT_PIXELS), align_corners=False)
    assert torch.equal(resize_tf1(picture), theirs[0].permute(1, 2, 0))
