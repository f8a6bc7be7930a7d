"""An experiment's folder: whose it is, what stands in its files, and what a stop between two writes leaves."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import CheckpointError
from tenth.core.files.claims import exclusive_folder
from tenth.experiments import identities as learnt
from tenth.experiments import images as pictures
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.runner import run_experiment


@pytest.fixture
def placed(recipe: ExperimentRecipe, tmp_path: Path, toy_folder: Path) -> ExperimentRecipe:
    """With two methods that are named by where they lie."""
    folders = [tmp_path / "runs" / name / "final" for name in ("one", "two")]
    for folder in folders:
        shutil.copytree(toy_folder / "ip-adapter-set", folder)
    return replace(recipe, methods=("ip-adapter", *map(str, folders)), images=1, max_people=2)


@pytest.mark.usefixtures("copying")
def test_where_things_lie_stands_in_no_file(placed: ExperimentRecipe, tmp_path: Path) -> None:
    text = run_experiment(placed, tmp_path / "out")
    assert "| `one/final` |" in text
    for path in (tmp_path / "out").rglob("*"):
        assert str(tmp_path).strip("/").replace("/", "-") not in str(path.relative_to(tmp_path))
        assert path.is_dir() or str(tmp_path).encode() not in path.read_bytes(), path
    settings = json.loads((tmp_path / "out/settings.json").read_text())
    assert settings["methods"] == ["ip-adapter", "one/final", "two/final"]
    assert settings["data"] == {"people": "people.jsonl", "photos": tmp_path.name}
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert [cost["method"] for cost in record["results"]["costs"]] == settings["methods"]
    assert all(cost["seconds_per_person"] is not None for cost in record["results"]["costs"])
    assert "images/3/two-final/001/0.png" in {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out/images").rglob("*.png")
    }
    assert (tmp_path / "out/report.html").read_text().count("data:image/webp") > 2 * 3


@pytest.mark.slow
@pytest.mark.usefixtures("copying")
def test_a_folder_of_other_or_damaged_settings_is_refused(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    run_experiment(recipe, tmp_path / "out")
    path = tmp_path / "out/settings.json"
    with pytest.raises(CheckpointError, match="other settings: images 2, not 1;"):
        run_experiment(replace(recipe, images=1), tmp_path / "out")
    for damaged in ("", "[" * 1000, "[]"):
        path.write_text(damaged)
        with pytest.raises(CheckpointError):
            run_experiment(recipe, tmp_path / "out")


@pytest.mark.usefixtures("copying")
def test_two_at_once(recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.core.files.claims.os.getpid", count().__next__)  # each time as if from another process
    with exclusive_folder(tmp_path / "out"), pytest.raises(CheckpointError, match="another run is writing to"):
        run_experiment(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", [(learnt, "save_identity"), (pictures, "save_sample")])
def test_of_what_is_there_the_cost_is_known(
    place: tuple[Any, str], recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = getattr(*place)

    def stopped_after(thing: Any, path: Path, **options: Any) -> None:
        save(thing, path, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(*place, stopped_after)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(recipe, tmp_path / "out")
    costs = [json.loads(line) for line in (tmp_path / "out/costs.jsonl").read_text().splitlines()]
    assert costs[-1]["task"] == ("images" if place[0] is pictures else "identity")
