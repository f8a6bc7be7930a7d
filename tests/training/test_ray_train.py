"""A real training by Ray Train, in two processes, where its packages are installed; and what is said where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fresh import Fresh
from tenth.core.errors import InputError, RecipeError
from tenth.training import ray_train
from tenth.training.checkpoint import load_checkpoint
from tenth.training.ray_train import train_on_ray

RECIPE = """
stage = "adapter"
aggregator = "set"
model = "{model}"
references = {{ min_photos = 1, max_photos = 3 }}
synthetic = {{ num_people = 5, photos_per_person = 4 }}
schedule = {{ total_images = 24, batch_size = 6, warmup_images = 6, precision = "fp32", checkpoint_every_images = 12 }}
"""


@pytest.mark.slow
def test_two_processes_of_ray_train_take_the_steps_of_one(toy_folder: Path, fresh: Fresh, tmp_path: Path) -> None:
    for name in ray_train.NEEDED_PACKAGES:
        pytest.importorskip(name, reason="Ray Train is not installed")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(model=toy_folder))
    for name, words in (("one", []), ("two", ["--ray", "local", "--workers", "2"])):
        done = fresh.command(["train", str(recipe), "-o", name, *words], tmp_path)
        assert (done.code, done.out.strip()) == (0, f"{name}/final"), done.err
    one, two = (load_checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one is not None
    assert two is not None
    assert one.step == two.step == 4
    for name, tensor in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], tensor, rtol=1e-3, atol=1e-5)


def test_what_is_missing_is_said_before_ray_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="--workers is 0; needed: with --ray at least 1"):
        train_on_ray(tmp_path / "recipe.toml", tmp_path, "local", 0)
    monkeypatch.setattr(ray_train, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"cannot be used without ray, pandas, .*pip install 'tenth\[cluster\]'"):
        train_on_ray(tmp_path / "recipe.toml", tmp_path, "local", 2)
