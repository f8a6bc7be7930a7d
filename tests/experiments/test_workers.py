"""An experiment whose identities and images several processes share."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import toy_runners
from tenth.core.errors import DataError, InputError
from tenth.core.workers.tasks import run_tasks
from tenth.experiments.costs import summarize_costs
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.runner import run_experiment
from tenth.experiments.workers import ExperimentWorkers


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


def test_what_a_worker_is_refused_ends_the_others(toy_model: Any, toy_folder: Path) -> None:
    workers = ExperimentWorkers(toy_model, str(toy_folder), count=2)
    done = sorted(workers.results(map(toy_runners.ModelTask, range(3))))
    digest = toy_model.name.partition("@")[2]
    assert [(name.partition("@")[2], number) for name, number in done] == [(digest, number) for number in range(3)]
    with pytest.raises(DataError, match="another is needed"):
        list(workers.results([toy_runners.refuse_model]))
    with pytest.raises(InputError, match="is not a model"):
        list(ExperimentWorkers(toy_model, str(toy_folder / "missing"), count=1).results([toy_runners.refuse_model]))


def test_no_line_of_costs_is_lost_between_processes(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    outcomes = run_tasks(partial(toy_runners.append_costs, path), ["one", "two", "three", "four"], workers=2)
    assert [outcome.error for outcome in outcomes] == [None] * 4
    counts = {name: cost["measured"] for name, cost in summarize_costs(path, "images").items()}
    assert counts == dict.fromkeys(["one", "two", "three", "four"], 20)
