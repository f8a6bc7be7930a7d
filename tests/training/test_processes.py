"""Two real processes over gloo give one process's losses at the same batch, whichever weights each of them uses."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from fresh import Done, Fresh
from tenth.training.checkpoint import load_checkpoint
from toy_latents import photo_dataset

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "processes_run.py"


def torchrun(fresh: Fresh, directory: Path, *asked: int) -> Done:
    """Two processes from the start, which torchrun starts."""
    given = [str(SCRIPT), str(directory), "2", *(str(int(each)) for each in asked)]
    program = f"from torch.distributed.run import main; main({['--standalone', '--nproc_per_node', '2', *given]!r})"
    return fresh.python(program, directory.parent)


def losses(directory: Path) -> dict[str, list[float]]:
    found: dict[str, list[float]] = json.loads((directory / "losses.json").read_text())
    return found


@pytest.fixture(scope="module")
def unbroken(fresh: Fresh, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that nothing disturbed."""
    directory = tmp_path_factory.mktemp("unbroken")
    done = torchrun(fresh, directory)
    assert done.code == 0, done.err
    return directory


def test_two_processes_give_one_s_losses(unbroken: Path, fresh: Fresh, tmp_path: Path) -> None:
    done = fresh.script(SCRIPT, tmp_path / "one", 1, at=tmp_path)
    assert done.code == 0, done.err
    one, two = losses(tmp_path / "one"), losses(unbroken)
    assert len(one["loss"]) == 40
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["gradient norm"] == pytest.approx(one["gradient norm"], rel=1e-4)
    weights = [load_checkpoint(directory) for directory in (tmp_path / "one", unbroken)]
    assert weights[0] is not None
    assert weights[1] is not None
    for name, tensor in weights[0].tensors.items():
        torch.testing.assert_close(weights[1].tensors[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed under /proc")
def test_no_thread_of_the_group_runs_when_python_ends(unbroken: Path) -> None:
    threads = json.loads((unbroken / "threads.json").read_text())
    assert threads
    assert not [name for name in threads if "gloo" in name]


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_all_processes_save_one_step_and_go_on_from_it(
    unbroken: Path, fresh: Fresh, tmp_path: Path, asked: signal.Signals
) -> None:
    stopped = tmp_path / "stopped"
    if asked is signal.SIGTERM:
        torchrun(fresh, stopped, asked)
    else:
        fresh.script(SCRIPT, stopped, 2, int(asked), at=tmp_path)
    checkpoint = load_checkpoint(stopped)
    assert checkpoint is not None
    assert 10 < checkpoint.step < 20  # saved between the checkpoints at 10 and 20
    done = fresh.script(SCRIPT, stopped, 2, at=tmp_path)
    assert done.code == 0, done.err
    assert losses(stopped)["loss"] == losses(unbroken)["loss"]
    ends = [load_checkpoint(directory) for directory in (unbroken, stopped)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert all(torch.equal(tensor, ends[1].tensors[name]) for name, tensor in ends[0].tensors.items())


def test_of_two_processes_one_writes_and_speaks(fresh: Fresh, face_photos: list[Path], tmp_path: Path) -> None:
    dataset = photo_dataset(tmp_path, face_photos, validation=2)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f"""stage = "autoencoder"
[data]
people = "{dataset.people}"
photos = "{dataset.photos}"
[schedule]
total_images = 4
batch_size = 4
warmup_images = 0
checkpoint_every_images = 4
"""
    )
    words = ["-m", "tenth.cli", "train", str(recipe), "-o", str(tmp_path / "out")]
    arguments = ["--standalone", "--nproc_per_node", "2", *words]
    done = fresh.python(f"from torch.distributed.run import main; main({arguments!r})", tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "out/final/autoencoder.safetensors").is_file()
    assert done.err.count("on validation people") == 1

    # Another recipe in the same folder.
    recipe.write_text(recipe.read_text().replace("total_images = 4", "total_images = 8"))
    done = fresh.python(f"from torch.distributed.run import main; main({[*arguments, '--resume']!r})", tmp_path)
    assert done.code != 0
    assert done.err.count("was begun with other settings") == 1
    assert "fault of tenth's" not in done.err
