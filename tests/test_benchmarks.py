"""Benchmarks run and print what is promised; how fast they are is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def run(name: str, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--tiny", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert [key for key in result if "ratio" in key] == ["ratio"]
    assert result["name"] == name
    return result


def test_the_training_step_prints_its_ratio_last() -> None:
    result = run("training_step")
    assert set(result["seconds"]) == {"ours", "recomputed", "bare"}
    assert result["over_bare"] > 0


def test_the_dreambooth_step_prints_its_ratio_last() -> None:
    result = run("dreambooth_step")
    assert set(result["seconds"]) == set(result["megabytes"]) == {"ours", "recipe"}
    assert min(result["megabytes"].values()) > 100


def test_generation_draws_diffusers_images_and_prints_its_ratio_last() -> None:
    result = run("generation", "--images=2")
    assert set(result["seconds"]) == {"ours", "diffusers"}
    assert result["largest_difference"] <= 1
    assert result["images"] == 2


def test_the_coverage_of_intervals_is_printed_last() -> None:
    command = [sys.executable, str(BENCHMARKS / "interval_coverage.py"), "--tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert len(result["cases"]) == 20
    assert all(0 <= case["percentile"] <= case["coverage"] <= 1 for case in result["cases"])


def test_metrics_are_torch_fidelitys_and_its_ratio_is_printed_last() -> None:
    pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed")
    result = run("metrics")
    ours, theirs = result["values"]["tenth"], result["values"]["torch-fidelity"]
    assert result["values"]["tenth, warm"] == ours
    assert ours["fid"] == pytest.approx(theirs["fid"], rel=1e-5)  # theirs takes roots of rounding errors: see test_fid.py
    assert ours["inception-score"] == pytest.approx(theirs["inception-score"], rel=1e-6)
    assert ours["kid"] == pytest.approx(theirs["kid"], abs=1e-5)  # theirs in single precision
