"""DINOv2 by a tiny random network in the layout of transformers, against the steps of dgm-eval and of DINOv2's own code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from transformers import Dinov2Config, Dinov2Model

from tenth.core.errors import ModelError
from tenth.core.types import Features, Pixels
from tenth.evaluation.extractors.dinov2 import Dinov2, preprocess, resize_positions
from tenth.evaluation.metrics.frechet import fd_dinov2

WIDTH, TRAINED_PIXELS, PATCH = 16, 84, 28  # 3 x 3 positions, for images of 8 x 8 patches


def write_model(folder: Path, **settings: int) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": TRAINED_PIXELS}
    Dinov2Model(Dinov2Config(**{**sizes, "patch_size": PATCH, **settings})).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def network(folder: Path) -> Dinov2:
    return Dinov2(folder)


def pictures(count: int = 10, seed: int = 0) -> list[Pixels]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (40 + 3 * index, 64, 3), dtype=np.uint8) for index in range(count)]


def positions_of_dinov2(positions: torch.Tensor, patches: int) -> torch.Tensor:
    """As its vision transformer resizes them, in which a tenth of a patch is added to the size."""
    count = positions.shape[1] - 1
    grid = positions[:, 1:].reshape(1, int(math.sqrt(count)), int(math.sqrt(count)), -1).permute(0, 3, 1, 2)
    factor = (patches + 0.1) / math.sqrt(count)
    grid = torch.nn.functional.interpolate(grid, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([positions[:, :1], grid.permute(0, 2, 3, 1).reshape(1, patches**2, -1)], dim=1)


def test_rows_are_the_class_token_of_images_prepared_as_by_dgm_eval(folder: Path, network: Dinov2) -> None:
    model = Dinov2Model.from_pretrained(folder).eval()
    prepare = transforms.Compose(
        [
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    expected = []
    with torch.no_grad():
        positions = positions_of_dinov2(model.embeddings.position_embeddings, 8)
        for picture in pictures():
            patches = model.embeddings.patch_embeddings(prepare(Image.fromarray(picture))[None])
            hidden = torch.cat([model.embeddings.cls_token, patches], dim=1) + positions
            hidden = model.encoder(hidden).last_hidden_state
            expected.append(model.layernorm(hidden)[0, 0].numpy())
    rows = network(pictures())
    assert (rows.shape, rows.dtype, network.feature_dim) == ((10, WIDTH), np.float64, WIDTH)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=1e-5)
    assert np.std(rows, axis=0).mean() > 1e-3  # it tells pictures apart


def test_pixels_are_those_of_torchvision_to_the_bit_of_a_float() -> None:
    expected = transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC)(Image.fromarray(pictures()[3]))
    unit = preprocess(pictures()[3]) * torch.tensor((0.229, 0.224, 0.225))[:, None, None]
    unit += torch.tensor((0.485, 0.456, 0.406))[:, None, None]
    np.testing.assert_array_equal((unit * 255).round().permute(1, 2, 0).byte().numpy(), np.asarray(expected))


def test_positions_of_the_right_number_stay() -> None:
    positions = torch.randn(1, 17, 4)
    assert resize_positions(positions, 4) is positions
    assert resize_positions(positions, 16).shape == (1, 257, 4)


def test_a_row_does_not_depend_on_the_batch(network: Dinov2) -> None:
    np.testing.assert_allclose(network(pictures()[-1:]), network(pictures())[-1:], rtol=0, atol=1e-5)
    assert network([]).shape == (0, WIDTH)


def test_other_weights_than_the_published_ones_are_said(folder: Path, network: Dinov2, tmp_path: Path) -> None:
    assert network.name.startswith("dinov2@")
    assert network.name.removeprefix("dinov2@") in network.disclaimer
    assert Dinov2(write_model(tmp_path / "other", num_hidden_layers=1)).name != network.name


def test_the_distance_is_that_of_means_and_covariances() -> None:
    """By numpy alone: the trace of the root from the eigenvalues of the product."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(60, 8)), random.normal(size=(50, 8)) @ random.normal(size=(8, 8)) + 1
    first, second = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.linalg.eigvals(first @ second).astype(complex)).real.sum()
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(first) + np.trace(second) - 2 * root
    sides = [Features(rows, ("",) * len(rows)) for rows in (a, b)]
    score = fd_dinov2(generated=sides[0], held_out=sides[1])
    assert score.value == pytest.approx(expected, rel=1e-9)
    assert (score.n, score.low) == (60, None)


@pytest.mark.parametrize("settings", [{"patch_size": 30, "image_size": 90}, {"num_channels": 1}])
def test_a_network_for_other_images_is_refused(tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=r"the folder of facebook/dinov2-large is needed"):
        Dinov2(write_model(tmp_path / "other", **settings))


def test_what_is_no_dinov2_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json"):
        Dinov2(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 2 * WIDTH}))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"the folder of facebook/dinov2-large is needed"):
        Dinov2(tmp_path)
