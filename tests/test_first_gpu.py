"""The script for somebody with a GPU, run on the CPU with toys: a process for each command, and a hub on this machine."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from fresh import ROOT, Fresh
from tenth.models.hub.published import PUBLISHED
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from toy_families import toy_family
from toy_hub import Hub, publish_folder

pytestmark = pytest.mark.slow


def test_a_report_of_every_model_comes_back(hub: Hub, models_here: Path, fresh: Fresh, tmp_path: Path) -> None:
    publish_folder(hub, PUBLISHED["flux2-klein-4b"].repository, toy_family("flux2-klein", tmp_path / "klein"))
    photos = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
    for name, files in {"anna": photos[:6], "bert": photos[3:9]}.items():
        (tmp_path / "people" / name).mkdir(parents=True)
        for path in files:
            shutil.copy(path, tmp_path / "people" / name)
    out = tmp_path / "out"
    python = str(fresh.loaded.interpreter(tmp_path / "python"))
    environment = os.environ | {"PYTHON": python, "STEPS": "1", "IMAGES": "1", "HF_HUB_OFFLINE": "0"}
    environment["TENTH_CACHE_DIR"] = str(tmp_path / "store")
    command = ["recipes/first-gpu.sh", str(tmp_path / "people"), str(out), "flux2-klein-4b", "owner/none"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(out / "report/report.json")

    report = json.loads((out / "report/report.json").read_text())
    assert (report["gpu"], report["environment"]["libraries"]["torch"] is not None) == (None, True)
    models = report["models"]
    assert {name: record["finished"] for name, record in models.items()} == {"flux2-klein-4b": True, "owner--none": False}
    assert "the hub has no repository owner/none" in models["owner--none"]["error"]
    record = models["flux2-klein-4b"]
    assert (record["method"], record["people"], record["steps"]) == ("photos-in-context", 2, 1)
    assert set(record["seconds"]) == {"load", "identity", "image"}
    assert record["peak_memory_mb"] > 100
    assert "identity-similarity" in record["metrics"]
    assert len(list((out / "flux2-klein-4b/images").glob("*/*.png"))) == 2
    assert {path.name for path in (out / "report").iterdir()} == {"report.json", "flux2-klein-4b.png"}
    assert not any(word in (out / "report/report.json").read_text() for word in ("anna", "bert", str(tmp_path)))


def test_a_run_in_which_nothing_was_drawn_fails_and_its_report_names_no_folder(fresh: Fresh, tmp_path: Path) -> None:
    """Nothing is asked of a network; the model's folder, below the user's, is damaged."""
    home = tmp_path / "home/anna"
    (home / "people/0").mkdir(parents=True)
    for path in sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[:5]:
        shutil.copy(path, home / "people/0")
    (home / "models").mkdir()
    (home / "models/models.lock").write_text("{")
    environment = os.environ | {
        "PYTHON": str(fresh.loaded.interpreter(tmp_path / "python")),
        "HF_HUB_OFFLINE": "1",
        "HOME": str(home),
    }
    command = ["recipes/first-gpu.sh", str(home / "people"), str(home / "out"), "sd15"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | {"TENTH_MODELS": str(home / "models")}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"No model drew; the files in {home}/out say why."
    text = (home / "out/report/report.json").read_text()
    record = json.loads(text)["models"]["sd15"]
    assert not record["finished"]
    assert "models.lock" in record["error"]
    assert not any(word in text for word in ("anna", str(tmp_path)))


def test_folders_are_taken_out_of_errors() -> None:
    program = runpy.run_path(str(ROOT / "benchmarks/first_gpu.py"))
    hide = program["without_folders"]
    said = "tenth: /home/anna/.cache/tenth/models/b.lock is none ('/home/anna/x.txt'); see https://hub.example/a/b, owner/name"
    assert hide(said) == "tenth: b.lock is none ('x.txt'); see https://hub.example/a/b, owner/name"


def test_a_folder_without_people_is_said(fresh: Fresh, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": str(fresh.loaded.interpreter(tmp_path / "python"))}
    command = ["recipes/first-gpu.sh", str(tmp_path), str(tmp_path / "out"), "sd15"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no folder; one with photos for each person is needed" in done.stderr
    assert not (tmp_path / "out").exists()
    done = subprocess.run(
        [*command[:2], str(tmp_path), "sd15"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, f"{tmp_path} is there already; a new folder is needed. Name another.\n")
