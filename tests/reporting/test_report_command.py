"""`tenth report`: where it writes, what it refuses, and what it says without matplotlib."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tenth.cli.main import main
from tenth.core.errors import CheckpointError
from tenth.reporting.html.page import write_page


def test_the_command_writes_beside_the_record(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given in (run_folder, run_folder / "run.json"):  # the second time the page is there already
        assert main(["report", str(given)]) == 0
        assert capsys.readouterr().out == f"{run_folder / 'report.html'}\n"
    assert (run_folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_the_command_writes_where_it_is_asked_to(run_folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "pages" / "a.html"
    assert main(["report", str(run_folder), "-o", str(target)]) == 0
    assert target.exists()
    assert not (run_folder / "report.html").exists()


@pytest.mark.parametrize("name", ["curve.png", "curve.svg"])
def test_the_command_writes_the_curve_alone(name: str, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = run_folder / "docs" / name
    assert main(["report", str(run_folder), "-o", str(target)]) == 0
    assert target.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")
    capsys.readouterr()
    target.write_text("mine")
    assert main(["report", str(run_folder), "-o", str(target)]) == 1
    assert f"{target} exists and is not what would be written" in capsys.readouterr().err
    assert target.read_text() == "mine"


def test_the_curve_without_matplotlib_is_an_error_of_three_parts(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["report", str(run_folder), "-o", str(run_folder / "curve.png")]) == 1
    said = capsys.readouterr().err
    assert said == "tenth: matplotlib is not installed; plots need it. Run `pip install 'tenth[report]'`.\n"
    assert not (run_folder / "curve.png").exists()


def test_a_file_of_the_users_is_not_replaced(run_folder: Path) -> None:
    (run_folder / "mine.html").write_text("<p>mine")
    for target in (run_folder / "mine.html", run_folder / "images"):
        with pytest.raises(CheckpointError, match="no page of tenth's"):
            write_page(run_folder, target)
    assert (run_folder / "mine.html").read_text() == "<p>mine"


def test_a_run_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "run.json does not exist" in said
    assert said.count("\n") == 1
