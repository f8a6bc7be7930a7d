from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tenth.data.faces.crops import PhotoDataset
from tenth.experiments.benchmark.export import export_benchmark
from tenth.experiments.benchmark.tasks import Benchmark
from tenth.experiments.recipe import ExperimentRecipe
from toy_benchmark import toy_recipe
from toy_people import open_toy_photo


@pytest.fixture(scope="module", autouse=True)
def toy_photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Drawn photos in place of files, and a cache of features for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PhotoDataset, "open_with_central_face", open_toy_photo)
        patch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.mktemp("features")))
        yield


@pytest.fixture(scope="module")
def tasks_recipe(tmp_path_factory: pytest.TempPathFactory) -> ExperimentRecipe:
    return toy_recipe(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def exported(tasks_recipe: ExperimentRecipe, tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    return export_benchmark(tasks_recipe, tmp_path_factory.mktemp("tasks"))


@pytest.fixture
def folder(exported: Benchmark, tmp_path: Path) -> Path:
    """A complete submission, which a test may spoil."""
    from toy_benchmark import fill

    return fill(exported.directory, tmp_path / "images")
