"""The table of metrics: a new metric is a file and a row, and docs/extend.md, run here, shows both."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.cli.main import main
from tenth.core.types import Features
from tenth.evaluation import registry
from tenth.evaluation.metrics.identity import identity_similarity
from tenth.evaluation.registry import METRICS, MetricSpec, metrics_for
from tenth.reporting.html.page import page
from tenth.reporting.markdown import markdown

PAGE = (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8")
NEEDS = {
    *("faces", "people", "references", "attributes", "threshold", "features"),
    *("inception", "logits", "dinov2", "face-quality"),
    *("prompts", "face attributes", "CLIP"),
}


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MetricSpec:
    """The metric of docs/extend.md: its file imported, its row in the table."""
    section = PAGE.split("## A metric\n")[1].split("\n## ")[0]
    ((file, row),) = re.findall(r"```python\n(.*?)```.*?```text\nfrom .*?\n(.*?)```", section, flags=re.DOTALL)
    (tmp_path / "added.py").write_text(file, encoding="utf-8")
    spec = importlib.util.spec_from_file_location("added", tmp_path / "added.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (made,) = eval(f"({row.strip()})", vars(registry) | vars(module))  # noqa: S307 - a page of this repository
    monkeypatch.setitem(registry.METRICS, made.name, made)  # type: ignore[arg-type]
    return made


def test_names_are_unique_and_needs_are_known() -> None:
    assert list(METRICS) == [row.name for row in registry.ROWS]
    assert len({row.label for row in registry.ROWS}) == len(registry.ROWS)
    assert {need for row in registry.ROWS for need in row.needs} == NEEDS
    assert METRICS["identity-similarity"].function is identity_similarity
    assert [row.name for row in metrics_for("CLIP")] == ["clip-score", "clip-r-precision"]


def test_a_metric_is_one_file_and_one_row(added: MetricSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # It measures what it says: the lower of two cosines to the one held-out photo.
    generated = Features(np.array([[1.0, 0.0], [0.6, 0.8]]), ("anna", "anna"))
    held_out = Features(np.array([[1.0, 0.0]]), ("anna",))
    assert added.function(generated=generated, held_out=held_out).value == pytest.approx(0.6)

    # It is listed, with what it needs.
    assert main(["metrics"]) == 0
    assert f"{added.name} ↑ {added.text} (needs faces, people)" in " ".join(capsys.readouterr().out.split())

    # Two folders are measured by it; these photos have no face, which it says.
    for name in "ab":
        Image.new("RGB", (48, 64), "white").save(tmp_path / f"{name}.png")
    assert main(["evaluate", str(tmp_path), "--held-out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"][added.name]
    assert found["higher_is_better"] is True
    assert found["value"] is None
    assert "no held-out photo with a face" in found["unavailable"]

    # A record's tables and page have its column.
    cell = {"prompt_set": "portrait", "num_photos": 9, "method": "ip-adapter", "metric": added.name, "value": 0.25, "n": 5}
    record: dict[str, Any] = {"kind": "experiment", "settings": {}, "results": {"format": 4, "scores": [cell]}}
    assert f"|  | {added.label} ↑ |" in markdown(record)
    shown = page(record, tmp_path)
    assert added.text in shown
    assert "0.250" in shown


def test_a_metric_that_the_table_does_not_know_is_still_shown(tmp_path: Path) -> None:
    cell = {"prompt_set": "portrait", "num_photos": 9, "method": "ip-adapter", "metric": "hair", "value": 0.25, "n": 5}
    record: dict[str, Any] = {"kind": "experiment", "settings": {}, "results": {"format": 4, "scores": [cell]}}
    assert "### Other metrics\n\n|  | hair |" in markdown(record)
    assert "hair" in page(record, tmp_path)
