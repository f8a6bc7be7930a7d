from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tenth.experiments.costs import Cost, append_cost, measure_cost, summarize_costs


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of resident memory is Linux's")
def test_the_peak_is_of_what_happens_inside() -> None:
    held = np.ones(40_000_000)  # 320 MB that are gone before it begins
    del held
    with measure_cost() as small:
        time.sleep(0.01)
    with measure_cost() as large:
        held = np.ones(40_000_000)
        del held
    assert small.seconds >= 0.01
    assert small.peak_memory_mb is not None
    assert large.peak_memory_mb is not None
    assert large.peak_memory_mb - small.peak_memory_mb >= 300


def test_costs_are_medians_of_each_and_the_most_memory(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    assert summarize_costs(path, "images") == {}
    for seconds, megabytes in ((8.0, 10), (4.0, 30), (100.0, 20)):
        append_cost(path, Cost(seconds, megabytes), task="images", method="a", count=4)
    append_cost(path, Cost(3.0), task="identity", method="a", person="000")
    assert summarize_costs(path, "images") == {"a": {"seconds": 2.0, "peak_memory_mb": 30, "measured": 3}}
    assert summarize_costs(path, "identity") == {"a": {"seconds": 3.0, "peak_memory_mb": None, "measured": 1}}


def test_a_line_that_an_earlier_version_left_torn_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    append_cost(path, Cost(3.0), task="identity", method="a")
    path.write_text(path.read_text() + '{"task": "identity", "method": "a", "seco\n7\n')
    append_cost(path, Cost(5.0), task="identity", method="a")
    assert summarize_costs(path, "identity") == {"a": {"seconds": 4.0, "peak_memory_mb": None, "measured": 2}}
    assert path.read_text().count("\n") == 2


def test_what_was_noted_stays_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    append_cost(path, Cost(1.0, 2), task="images", method="one")
    before = path.read_bytes()
    append_cost(path, Cost(1.0, None), task="identity", method="two")
    append_cost(path, Cost(1.0, 2), task="images", method="three", count=4)
    assert path.read_bytes().startswith(before)
    assert [json.loads(line)["method"] for line in path.read_text().splitlines()] == ["one", "two", "three"]
