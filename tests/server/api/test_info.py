"""Methods, models and runs over HTTP; and that the names are those of the registries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from house_source import ROOT
from served_api import Served
from tenth.methods.registry import COMBINATIONS, DEFAULT_METHOD, METHODS
from tenth.models.registry import MODELS
from tenth.server.catalog import Catalog
from tenth.server.runs import HISTORY_FILE, find_run, list_runs
from tenth.training import monitoring
from toy_jobs import wait_for

RECIPE = 'stage = "adapter"\n[schedule]\ntotal_images = 1_600\nbatch_size = 8\n[data]\nphotos = "/home/anna/photos"\n'


@pytest.mark.slow
def test_the_catalog_is_that_of_the_registries() -> None:
    catalog = Catalog()
    catalog.read_ahead()
    tables = catalog.tables  # of the one child
    catalog.close()
    assert set(tables.methods) == {*METHODS, *COMBINATIONS}
    assert set(tables.models) == set(MODELS)
    assert tables.methods[DEFAULT_METHOD] == METHODS[DEFAULT_METHOD].description
    assert (tables.default_method, tables.default_model) == (DEFAULT_METHOD, "pocket")


def test_a_catalog_that_is_closed_leaves_no_child() -> None:
    catalog = Catalog()
    catalog.read_ahead()
    wait_for(lambda: catalog._child is not None)
    catalog.close()
    assert catalog._child.wait(20) < 0


def test_methods_and_models_are_listed_the_default_first(anna: Served) -> None:
    methods = anna.client.get("/v1/methods").json()
    assert methods["object"] == "list"
    assert [each["id"] for each in methods["data"]] == ["ip-adapter-consensus", "ip-adapter"]
    models = anna.client.get("/v1/models").json()["data"]
    assert [(each["id"], each["object"]) for each in models] == [("pocket", "model"), ("tenth:anna", "model")]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder with an experiment, a training that goes on, one that is done, images that were begun, and what is none."""
    top = tmp_path / "runs"
    shutil.copytree(ROOT / "results/quick-test", top / "comparison")
    for name in ("training", "trained"):
        (top / name).mkdir()
        (top / name / "recipe.toml").write_text(RECIPE)
        (top / name / "step-00000100").mkdir()
        (top / name / HISTORY_FILE).write_text('{"images": 640, "similarity": 0.25, "best": true}\n')
    (top / "trained/final").mkdir()
    (top / "images").mkdir()
    progress = {"kind": "generate", "settings": {"seeds": [1, 2, 3]}, "seconds": {}}
    (top / "images/.begun.json").write_text(json.dumps(progress))
    (top / "images/1.png").write_bytes(b"")
    (top / "damaged").mkdir()
    (top / "damaged/run.json").write_text("{")
    (top / "loop").symlink_to(top)
    return top


def test_runs_say_how_far_they_are(runs: Path) -> None:
    found = {run.name: run for run in list_runs([runs])}
    assert set(found) == {"runs/comparison", "runs/training", "runs/trained", "runs/images"}
    assert HISTORY_FILE == monitoring.HISTORY_FILE

    training, trained, images = (found[f"runs/{name}"] for name in ("training", "trained", "images"))
    assert (training.kind, training.status, training.done, training.total) == ("training, adapter", "running", 800, 1600)
    assert training.metrics == {"images": 640, "similarity": 0.25}
    assert training.settings["data"]["photos"] == "photos"  # no folder of this machine
    assert (trained.status, trained.done) == ("done", 1600)
    assert (images.kind, images.status, images.done, images.total) == ("generate", "running", 1, 3)
    comparison = found["runs/comparison"]
    assert (comparison.kind, comparison.status) == ("experiment", "done")
    scores = json.loads((ROOT / "results/quick-test/run.json").read_text())["results"]["scores"]
    first = next(row for row in scores if (row["metric"], row["method"]) == ("identity-similarity", "ip-adapter"))
    assert comparison.metrics["identity-similarity ip-adapter"] == round(first["value"], 4)
    for path in (runs / "training").iterdir():
        os.utime(path, (1, 1))
    os.utime(runs / "training", (1, 1))
    stopped = find_run([runs], training.id)
    assert stopped is not None
    assert stopped.status == "stopped"


def test_runs_are_shown_over_http(runs: Path, served: Served) -> None:
    rows = served.client.get("/v1/runs").json()["data"]
    assert len(rows) == 4
    (training,) = (row for row in rows if row["name"] == "runs/training")
    one = served.client.get(f"/v1/runs/{training['id']}").json()
    assert one["history"] == [{"images": 640, "similarity": 0.25, "best": True}]
    assert "history" not in training
    assert served.client.get("/v1/runs/..%2F..%2Fetc").status_code == 404


def test_the_api_imports_no_torch(tmp_path: Path) -> None:
    code = f"""
import sys
import time
from fastapi.testclient import TestClient
from tenth.server.app import create_app
from tenth.server.settings import ServerSettings
with TestClient(create_app(ServerSettings(data={str(tmp_path)!r})), base_url="http://127.0.0.1") as client:
    for path in ("/v1/people", "/v1/jobs", "/v1/pictures", "/v1/runs", "/sdapi/v1/samplers", "/sdapi/v1/progress"):
        assert client.get(path).status_code == 200, path
    body = {{"person": "anna", "request": {{"prompts": ["a photo"]}}}}
    assert client.post("/v1/jobs", json=body).status_code == 404
print([name for name in ("torch", "diffusers", "dlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_each_module_can_be_imported_first() -> None:
    """No import goes in a circle by the package around it."""
    folder = ROOT / "src/tenth/server"
    names = [".".join(path.relative_to(ROOT / "src").with_suffix("").parts) for path in sorted(folder.rglob("*.py"))]
    heavy = ("tenth.server.drawing", "tenth.server.security.photo_inspection")  # of the other processes
    names = [name for name in names if name not in heavy and not name.endswith("__init__")]
    assert len(names) > 25
    code = f"""
import importlib, sys
for name in {names}:
    for loaded in [each for each in sys.modules if each.startswith("tenth.server")]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
