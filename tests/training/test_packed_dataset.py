"""A step's examples in a small file, and some seconds spent on them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fresh import Fresh
from tenth.core.errors import CheckpointError
from tenth.models.pocket.loader import load_pocket
from tenth.training.pocket import packed_dataset
from tenth.training.pocket.diffusion import Prepared
from tenth.training.pocket.packed_dataset import QUANTIZATION_STEPS, deserialize, pack, serialize, train_for_seconds, unpack
from toy_latents import photo_dataset, pocket_dataset

# A program on stdin, as `python - ARGUMENTS` runs it, for which one step is enough to tell the speed.
ONE_STEP = (
    "import sys; from tenth.training.pocket import packed_dataset; packed_dataset.NUM_TIMED_STEPS = 1;"
    " del sys.argv[0]; exec(sys.stdin.read())"
)
SCRIPT = Path(__file__).resolve().parents[2] / "recipes/gpu-minutes.sh"


@pytest.fixture
def recipe(
    tmp_path: Path, toy_folder: Path, toy_configs: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    shutil.copytree(toy_folder / "image_encoder", toy_configs / "image_encoder", dirs_exist_ok=True)  # what `unpack` reads
    monkeypatch.setattr(packed_dataset, "PACKAGED_AUTOENCODER", toy_folder / "vae/diffusion_pytorch_model.safetensors")
    return write_recipe(tmp_path, toy_folder, face_photos, monkeypatch)


def write_recipe(tmp_path: Path, start: Path, face_photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    people = photo_dataset(tmp_path, face_photos)
    lines = [
        'stage = "base-model"',
        f'autoencoder = "{start}/vae/diffusion_pytorch_model.safetensors"',
        f'init_from = "{start}"',
        f'[data]\npeople = "{people.people}"\nphotos = "{people.photos}"',
        "[schedule]\ntotal_images = 4\nbatch_size = 2\ncheckpoint_every_images = 2",
        "[augmentation]\np_apply = 0.5",
    ]
    path = tmp_path / "recipe.toml"
    path.write_text("\n".join(lines))
    return path


def test_what_is_packed_comes_back_as_near_as_it_is_kept() -> None:
    made = pocket_dataset()
    made.embeddings.copy_(torch.randn(6, 128))
    content = serialize(Prepared(None, {}, None, None, made, torch.tensor([0, 1, 1, 5]), ()))  # type: ignore[arg-type]
    found, seen = deserialize(content)
    for name, step in QUANTIZATION_STEPS.items():
        apart = (getattr(found, name) - getattr(made, name)).abs()
        assert getattr(found, name).shape == getattr(made, name).shape
        assert 0 < apart.max() <= step / 2 + 1e-6
    assert torch.equal(found.tokens, made.tokens)
    assert torch.equal(found.person_spans, made.person_spans)
    assert seen.tolist() == [0, 1, 1, 5]
    assert len(content) < made.latents.numel() + made.embeddings.numel()  # less than a byte a number


@pytest.mark.slow
def test_minutes_are_spent_and_give_whole_models(recipe: Path, tmp_path: Path) -> None:
    pack(recipe, None, tmp_path / "gpu")
    before = load_file(tmp_path / "gpu/weights.safetensors")
    assert {value.dtype for value in before.values()} == {torch.float16}
    train_for_seconds(tmp_path / "gpu", tmp_path / "out", seconds=0, batch_size=2, learning_rate=1e-4)
    parts = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert parts == ["average-2.safetensors", "average.safetensors"]
    after = load_file(tmp_path / "out/average.safetensors")
    assert after.keys() <= before.keys()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    assert all(torch.allclose(value, before[name], atol=1e-2) for name, value in after.items())
    unpack(tmp_path / "out/average.safetensors", tmp_path / "model")
    unet = load_pocket(tmp_path / "model").pipeline.unet.state_dict()
    assert all(torch.equal(value, after[f"unet.{name}"].float()) for name, value in unet.items())


def test_a_run_without_a_checkpoint_is_said(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        pack(recipe, tmp_path, tmp_path / "gpu")


@pytest.mark.slow
def test_the_command_packs_and_a_try_on_a_cpu_spends_and_joins(
    pocket_sized_folder: Path, face_photos: list[Path], fresh: Fresh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What spending imports is what was carried: neither the installed diffusers nor dlib. At the pocket model's own size.

    Its speed is measured in one step: what it does in these seconds is not looked at.
    """
    recipe = write_recipe(tmp_path, pocket_sized_folder, face_photos, monkeypatch)
    fork = fresh.loaded.interpreter(tmp_path / "fork")  # for joining, which may have loaded anything
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\n[ "$1" = - ] || exec {sys.executable} "$@"\ncase $2 in *.safetensors) exec {fork} "$@" ;; esac\n'
        f'exec {sys.executable} -c "{ONE_STEP}" "$@"\n'
    )
    python.chmod(0o755)

    def run(*words: object) -> str:
        command = ["bash", str(SCRIPT), *map(str, words)]
        environment = {**os.environ, "PYTHON": str(python)}
        done = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[1], env=environment, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "MiB of the checkout" in run("pack", recipe, tmp_path / "gpu")
    said = run("try", tmp_path / "gpu", tmp_path / "tried").split()
    sizes = [path.stat().st_size for path in (tmp_path / "tried/parts").glob("part-*")]
    assert max(sizes) <= 16_000_000
    assert sum(sizes) > 40_000_000
    assert said[-4:] == ["average", "average-2", "average-2.safetensors", "average.safetensors"]
    before = load_pocket(pocket_sized_folder).pipeline.unet.state_dict()
    after = load_pocket(tmp_path / "tried/models/average").pipeline.unet.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
