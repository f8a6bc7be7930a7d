"""Images of every family of transformers in a folder: a run that was stopped goes on, and ends with the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import CheckpointError
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import Identity
from tenth.experiments.generation.resumable_images import ImageSeries, UnfinishedRun
from tenth.models.families.registry import FAMILIES
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request
from toy_families import load_toy, toy_family, toy_photo

FEW = SamplingConfig(steps=2)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_toy(toy_family(request.param, tmp_path_factory.mktemp("families") / request.param))


def series(model: Any, folder: Path, sampling: SamplingConfig = FEW) -> ImageSeries:
    """Two images of somebody, if the family takes photos, and one of nobody."""
    somebody = None
    if model.max_context_photos:
        context = model.encode_photos([toy_photo(64, 64), toy_photo(64, 64, seed=1)])
        somebody = Identity("photos-in-context", model.name, "", "", context=context)
    requests = [Request(somebody, "a photo", 3), Request(somebody, "a photo of a person", 4), Request(None, "a photo", 5)]
    folder.mkdir(exist_ok=True)
    return ImageSeries(model, requests, [folder / f"{number}.png" for number in range(len(requests))], sampling, batch_size=2)


def draw(images: ImageSeries) -> dict[str, bytes]:
    folder = images.paths[0].parent
    images.generate(UnfinishedRun(folder, "images", {}))
    return {path.name: path.read_bytes() for path in images.paths}


@pytest.mark.slow
def test_a_series_goes_on_to_the_same_bytes(model: Any, tmp_path: Path) -> None:
    images = series(model, tmp_path / "images")
    whole = draw(images)
    assert len(set(whole.values())) == len(whole)
    images.paths[1].unlink()
    kept = images.paths[0].stat().st_ino
    assert draw(images) == whole
    assert images.paths[0].stat().st_ino == kept
    assert draw(series(model, tmp_path / "again")) == whole


def test_an_image_says_how_it_was_drawn_and_other_settings_do_not_replace_it(model: Any, tmp_path: Path) -> None:
    whole = draw(series(model, tmp_path))
    settings, own = read_sample(tmp_path / "0.png"), model.default_sampling
    assert (settings["steps"], settings["guidance_scale"]) == (2, own.guidance_scale)
    assert settings["guidance_rescale"] == own.guidance_rescale
    with pytest.raises(CheckpointError, match="is not the complete image that would be generated there"):
        draw(series(model, tmp_path, SamplingConfig(steps=1)))
    assert {name: (tmp_path / name).read_bytes() for name in whole} == whole
