"""What the repository shows of its records is what the commands make of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.evaluation.registry import METRICS
from tenth.reporting.markdown import markdown, summary
from tenth.reporting.plots import write_curve
from tenth.reporting.results_reader import read_results

ROOT = Path(__file__).parents[2]
RUNS = sorted(path.parent.name for path in (ROOT / "results").glob("*/run.json"))


def record_of(run: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((ROOT / "results" / run / "run.json").read_text(encoding="utf-8"))
    return record


@pytest.mark.parametrize("run", RUNS)
def test_the_tables_are_the_records(run: str) -> None:
    assert (ROOT / "results" / run / "table.md").read_text(encoding="utf-8") == markdown(record_of(run))


@pytest.mark.parametrize("run", RUNS)
def test_every_metric_of_a_record_is_in_the_registry(run: str) -> None:
    assert {score["metric"] for score in record_of(run)["results"]["scores"]} <= set(METRICS)


def test_the_tables_of_the_results_page_are_the_records() -> None:
    page = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    blocks = re.findall(r"<!-- tenth report results/(\S+) --summary -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert [run for run, _ in blocks] == ["quick-test", "comparison-test"]
    for run, block in blocks:
        assert block == summary(record_of(run)), f"write `tenth report results/{run} --summary` into docs/results.md again"


def test_the_curve_is_the_records(tmp_path: Path) -> None:
    """To one part in 255 on average: fonts are drawn a little differently by other versions of the libraries."""
    write_curve(read_results(record_of("curve-test")), tmp_path / "curve.png")
    made, committed = (
        np.asarray(Image.open(path).convert("RGB"), np.float64) for path in (tmp_path / "curve.png", ROOT / "docs/curve.png")
    )
    assert made.shape == committed.shape
    assert np.abs(made - committed).mean() < 1, "write `tenth report results/curve-test -o docs/curve.png` again"
