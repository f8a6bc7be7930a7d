"""The image encoder of the published adapters, on a small random model of its layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from tenth.core.cache import ArrayCache
from tenth.core.errors import ModelError
from tenth.core.types import Photo
from tenth.models.encoders.clip import BATCH_SIZE, ClipEncoder

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # Radford et al. 2021


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip")
    CLIPVisionModelWithProjection(CLIPVisionConfig(projection_dim=24, patch_size=8, image_size=224, **SMALL)).save_pretrained(
        path
    )
    return path


def photos(count: int) -> list[Photo]:
    random = np.random.default_rng(0)
    sides = [(300, 260), (260, 300), (250, 250)]
    return [Photo(random.integers(0, 256, (*sides[n % 3], 3), dtype=np.uint8), f"{n:064x}") for n in range(count)]


def test_an_embedding_is_that_of_the_middle_square_resized_and_normalised(folder: Path) -> None:
    (photo,) = photos(1)
    picture = Image.fromarray(photo.pixels).resize((224, round(224 * 300 / 260)), Image.Resampling.BICUBIC)
    top = (picture.height - 224) // 2
    square = np.asarray(picture.crop((0, top, 224, top + 224))) / 255
    pixels = torch.from_numpy((square - MEAN) / DEVIATION).float().permute(2, 0, 1)[None]
    with torch.no_grad():
        wanted = CLIPVisionModelWithProjection.from_pretrained(folder).eval()(pixels).image_embeds
    torch.testing.assert_close(ClipEncoder(folder)([photo]), wanted, rtol=1e-3, atol=1e-4)


def test_photos_do_not_depend_on_what_stands_beside_them(folder: Path) -> None:
    encoder, given = ClipEncoder(folder), photos(BATCH_SIZE + 3)
    together = encoder(given)
    assert together.shape == (BATCH_SIZE + 3, encoder.embedding_dim)
    assert together.dtype == torch.float32
    torch.testing.assert_close(together, torch.cat([encoder([photo]) for photo in given]))


def test_the_name_tells_the_weights(folder: Path, tmp_path: Path) -> None:
    config = CLIPVisionConfig(projection_dim=24, patch_size=8, image_size=224, **SMALL)
    CLIPVisionModelWithProjection(config).save_pretrained(tmp_path)
    assert ClipEncoder(folder).name == ClipEncoder(folder).name != ClipEncoder(tmp_path).name


def test_a_folder_without_a_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a CLIP vision model with projection is needed"):
        ClipEncoder(tmp_path)


def test_pooled_embeddings_are_kept_and_a_photo_is_read_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = photos(3)
    fresh = ClipEncoder(folder, cache=ArrayCache(tmp_path))(given[:2])
    torch.testing.assert_close(fresh, ClipEncoder(folder)(given[:2]))
    again, read = ClipEncoder(folder, cache=ArrayCache(tmp_path)), []
    plain = again._embeddings
    monkeypatch.setattr(again, "_embeddings", lambda some: (read.extend(some), plain(some))[1])
    assert torch.equal(again(given)[:2], fresh)
    assert read == [given[2]]
    assert torch.equal(again(given[::-1])[1:], fresh.flip(0))
    assert len(read) == 1


def test_of_an_image_of_no_file_nothing_is_kept(folder: Path, tmp_path: Path) -> None:
    crops = [Photo(each.pixels, "") for each in photos(2)]
    embedded = ClipEncoder(folder, cache=ArrayCache(tmp_path / "cache"))(crops)
    assert torch.equal(embedded, ClipEncoder(folder)(crops))
    assert not any(path.is_file() for path in (tmp_path / "cache").rglob("*"))
