"""Two real processes over gloo give one process's losses at the same batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tenth.checkpoint import load_checkpoint

SCRIPT = Path(__file__).parent / "processes_run.py"


def run(directory: Path, processes: int) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run([*command, str(SCRIPT), str(directory)], capture_output=True, text=True, timeout=300, check=False)
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
