"""Two real processes over gloo give one process's losses at the same batch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tenth.training.checkpoint import load_checkpoint

SCRIPT = Path(__file__).parents[1] / "processes_run.py"


def command(directory: Path, processes: int) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return [*torchrun, str(SCRIPT), str(directory)]


def run(directory: Path, processes: int) -> dict[str, list[float]]:
    done = subprocess.run(command(directory, processes), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    losses: dict[str, list[float]] = json.loads((directory / "losses.json").read_text())
    return losses


def test_two_processes_give_one_s_losses(tmp_path: Path) -> None:
    one, two = run(tmp_path / "one", 1), run(tmp_path / "two", 2)
    assert len(one["loss"]) == 40
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert two["gradient norm"] == pytest.approx(one["gradient norm"], rel=1e-4)
    weights = [load_checkpoint(tmp_path / name) for name in ("one", "two")]
    assert weights[0] is not None
    assert weights[1] is not None
    for name, tensor in weights[0].tensors.items():
        torch.testing.assert_close(weights[1].tensors[name], tensor, rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed under /proc")
def test_no_thread_of_the_group_runs_when_python_ends(tmp_path: Path) -> None:
    run(tmp_path, 2)
    threads = json.loads((tmp_path / "threads.json").read_text())
    assert threads
    assert not [name for name in threads if "gloo" in name]


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_all_processes_save_one_step_and_go_on_from_it(tmp_path: Path, asked: signal.Signals) -> None:
    one, stopped = tmp_path / "one", tmp_path / "stopped"
    losses = run(one, 2)["loss"]
    with subprocess.Popen([*command(stopped, 2), "0.3"], stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while not any(stopped.glob("step-*")) and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.4)  # into the next steps: the signal is not to come at a checkpoint
        process.send_signal(asked)
    checkpoint = load_checkpoint(stopped)
    assert checkpoint is not None
    assert 10 < checkpoint.step < 20  # saved between the checkpoints at 10 and 20
    assert run(stopped, 2)["loss"] == losses
    ends = [load_checkpoint(directory) for directory in (one, stopped)]
    assert all(torch.equal(tensor, ends[1].tensors[name]) for name, tensor in ends[0].tensors.items())
