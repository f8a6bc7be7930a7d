"""Rows of a benchmark's table: none is lost, none stands for another, and one of fewer people is not called the best."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import CheckpointError, DataError
from tenth.core.run_record import write_record
from tenth.experiments.benchmark.judges import Judges
from tenth.experiments.benchmark.run import score_folder
from tenth.experiments.benchmark.scoring import SystemName
from tenth.experiments.benchmark.table import check_rows, row_path, write_tables
from tenth.experiments.benchmark.tasks import Benchmark
from tenth.reporting.results_reader import CONTROLS, IDENTITY
from toy_benchmark import fill, next_person
from toy_people import ColorRecognizer

JUDGES = Judges({"colours@0": ColorRecognizer()}, (), {})


@pytest.fixture(scope="module")
def scored(exported: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of three systems: one shows the wrong person, one the right one, and one that, dark, and not everybody."""
    folder = tmp_path_factory.mktemp("systems")
    images = {
        "wrong": fill(exported.directory, folder / "wrong", next_person),
        "dark": fill(exported.directory, folder / "dark", shade=0.7),
        "right": fill(exported.directory, folder / "right"),
    }
    shutil.rmtree(images["dark"] / "portrait/1/000")
    for name, path in images.items():
        score_folder(path, exported, SystemName(name), JUDGES, folder / "results", partial=name == "dark")
    return folder / "results"


def record(results: Path) -> Any:
    return json.loads((results / "run.json").read_text())["results"]


def test_a_name_that_differs_in_case_alone_is_refused(exported: Benchmark, scored: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(scored, tmp_path / "results"))
    with pytest.raises(DataError, match=r"the name 'Dark', beside the row 'dark'; names that differ in more than case"):
        check_rows(results, exported, "Dark", "", JUDGES.names)
    row_path(results, "Dark").write_text(row_path(results, "dark").read_text().replace('"dark"', '"Dark"'))
    with pytest.raises(DataError, match=r"has the rows 'Dark' and 'dark'; names that differ in more than case"):
        write_tables(results, exported)


def test_scoring_again_loses_no_recognizer(exported: Benchmark, folder: Path, scored: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(scored, tmp_path / "results"))
    before, other = row_path(results, "right").read_bytes(), {"another@0": ColorRecognizer()}
    with pytest.raises(CheckpointError, match=r"has scores by colours@0, which would be lost; .*Give these as well"):
        score_folder(folder, exported, SystemName("right"), Judges(other, (), {}), results)
    assert row_path(results, "right").read_bytes() == before
    score_folder(folder, exported, SystemName("right"), Judges({**JUDGES.recognizers, **other}, (), {}), results)
    assert [each["name"] for each in record(results)["recognizers"]] == ["colours@0", "another@0"]
    row = json.loads(row_path(results, "right").read_text())
    row["results"] |= {"prompt_scorers": ["clip@1"], "networks": {"dinov2": {"name": "dinov2@2", "disclaimer": ""}}}
    row_path(results, "right").write_text(json.dumps(row))
    with pytest.raises(CheckpointError, match=r"has scores by clip@1, dinov2@2, which would be lost"):
        score_folder(folder, exported, SystemName("right"), Judges({**JUDGES.recognizers, **other}, (), {}), results)


def test_a_row_of_fewer_people_is_not_called_the_best(exported: Benchmark, scored: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(scored, tmp_path / "results"))
    path = row_path(results, "dark")
    row = json.loads(path.read_text())
    for each in row["results"]["scores"]:
        each["value"] = 0.999 if (each["method"], each["metric"]) == ("dark", IDENTITY) else each["value"]
    path.write_text(json.dumps(row))
    write_tables(results, exported)
    assert json.loads((results / "run.json").read_text())["settings"]["methods"] == ["right", "wrong", "dark"]
    text = (results / "table.md").read_text()
    assert "`right` has the highest mean ID similarity" in text
    assert "`dark` is of 2 of 3 people, so its mean is not compared with others' means; `dark` does not differ" in text
    assert ", on the 2 people of both: " in text
    assert "n = 2" in (results / "report.html").read_text()
    pairs = list(csv.DictReader((results / "differences.csv").open()))
    assert {(each["row"], each["baseline"]): each["n"] for each in pairs if each["photos"] == "1"} == {
        ("dark", "right"): "2",
        ("dark", "wrong"): "2",
        ("right", "wrong"): "3",
    }


def test_the_recognizer_and_the_controls_are_those_of_the_row_with_the_most_people(
    exported: Benchmark, scored: Path, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(scored, tmp_path / "results"))
    path = row_path(results, "dark")  # the first by name, of fewer people
    row = json.loads(path.read_text().replace("colours@0", "others@0"))
    row["results"]["controls"] = [{"method": CONTROLS[-1], "model": "other@0", "width": 8, "height": 8}]
    path.write_text(json.dumps(row))
    path = row_path(results, "wrong")
    row = json.loads(path.read_text())
    row["results"]["controls"] = [{"method": CONTROLS[-1], "model": "toy@0", "width": 8, "height": 8}]
    path.write_text(json.dumps(row))
    write_tables(results, exported)
    assert [each["name"] for each in record(results)["recognizers"]] == ["colours@0", "others@0"]
    assert json.loads((results / "run.json").read_text())["settings"]["methods"] == ["right", "wrong", "dark"]
    assert record(results)["systems"][-1]["model"] == "toy@0"


@pytest.mark.parametrize("held", ["run.json", "thesis.txt"])
def test_results_take_the_place_of_nothing_else(exported: Benchmark, folder: Path, tmp_path: Path, held: str) -> None:
    write_record(tmp_path / "out" / held, command="experiment", settings={}, results={})
    before = (tmp_path / "out" / held).read_bytes()
    with pytest.raises(CheckpointError, match=r"out holds files, and no rows of a benchmark; an empty or new folder"):
        score_folder(folder, exported, SystemName("x"), JUDGES, tmp_path / "out")
    assert (tmp_path / "out" / held).read_bytes() == before
    assert len(list((tmp_path / "out").iterdir())) == 1
