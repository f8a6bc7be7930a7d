"""An experiment whose identities and images several processes share."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError, InputError
from tenth.experiments.costs import Cost, CostLog, append_cost, append_lines, summarize_costs
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.runner import run_experiment
from tenth.experiments.workers import ExperimentWorkers
from toy_experiment_tasks import ModelTask, RefusedTask


@pytest.mark.slow
def test_two_processes_end_with_the_images_of_one(recipe: ExperimentRecipe, tmp_path: Path, toy_folder: Path) -> None:
    recipe = replace(recipe, model=str(toy_folder), images=1)
    texts = [run_experiment(recipe, tmp_path / str(count), workers=count) for count in (0, 2)]

    alone, shared = tmp_path / "0", tmp_path / "2"
    paths = sorted(path.relative_to(alone) for path in alone.rglob("*.png"))
    assert paths == sorted(path.relative_to(shared) for path in shared.rglob("*.png"))
    for path in paths:
        if path.parts[0] == "images":
            first, second = (np.asarray(Image.open(folder / path)).astype(int) for folder in (alone, shared))
            assert abs(first - second).max() <= 1, path
    # Each identity and each batch was paid for once, and the tables differ in what it cost alone.
    for task in ("identity", "images"):
        counts = [
            {name: cost["measured"] for name, cost in summarize_costs(folder / "costs.jsonl", task).items()}
            for folder in (alone, shared)
        ]
        assert counts[0] == counts[1] != {}
    assert texts[0].splitlines()[0] == texts[1].splitlines()[0]
    scores = [json.loads((folder / "run.json").read_text())["results"]["scores"] for folder in (alone, shared)]
    assert [(row["method"], row["metric"]) for row in scores[0]] == [(row["method"], row["metric"]) for row in scores[1]]
    assert [row["value"] for row in scores[0]] == pytest.approx([row["value"] for row in scores[1]], abs=0.02)


def test_what_a_worker_is_refused_ends_the_others(toy_model: Any, toy_folder: Path, tmp_path: Path) -> None:
    workers = ExperimentWorkers(toy_model, str(toy_folder), count=2)
    done = sorted(workers.results(ModelTask(tmp_path, number) for number in range(3)))
    digest = toy_model.name.partition("@")[2]
    assert [(name.partition("@")[2], number) for name, number in done] == [(digest, number) for number in range(3)]
    assert summarize_costs(tmp_path / "costs.jsonl", "images")["toy"]["measured"] == 3
    with pytest.raises(DataError, match="another is needed"):
        list(workers.results([RefusedTask(tmp_path)]))
    with pytest.raises(InputError, match="is not a model"):
        list(ExperimentWorkers(toy_model, str(toy_folder / "missing"), count=1).results([RefusedTask(tmp_path)]))


@pytest.mark.slow
def test_a_worker_knows_the_adapters_that_were_trained_with_aggregators(
    recipe: ExperimentRecipe, tmp_path: Path, toy_folder: Path
) -> None:
    """Identities are made by one process and drawn by another, whose model has not met their adapter."""
    folder = shutil.copytree(toy_folder / "ip-adapter-attention", tmp_path / "mine")
    recipe = replace(recipe, model=str(toy_folder), images=1, methods=("ip-adapter", str(folder)), max_people=2)
    run_experiment(recipe, tmp_path / "out", workers=1)
    assert json.loads((tmp_path / "out/run.json").read_text())["results"]["failed"] == []


def test_costs_of_another_process_wait_for_the_one_that_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    append_cost(path, Cost(1.0), task="identity", method="first", person="000")
    waiting = CostLog(path, waits=True)
    waiting.append(Cost(3.0, 7), task="identity", method="first", person="001")
    assert waiting.add_recorded(Cost(0.5), method="first", person="000").seconds == 1.5
    assert waiting.add_recorded(Cost(0.5), method="first", person="001").seconds == 3.5
    assert len(path.read_text().splitlines()) == 1
    append_lines(path, waiting.lines)
    assert summarize_costs(path, "identity") == {"first": {"seconds": 2.0, "peak_memory_mb": 7, "measured": 2}}
