"""The frontier in a report: read from the record, drawn, and in tables. No number in it was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.cli.main import main
from tenth.core.errors import CheckpointError, DataError
from tenth.reporting.frontier.plot import frontier_plots, write_frontier
from tenth.reporting.frontier.record import Frontier, read_frontier
from tenth.reporting.frontier.tables import areas_table, points_table
from tenth.reporting.html.page import page
from tenth.reporting.markdown import markdown
from tenth.reporting.plot_style import COLORS, series_style
from tenth.reporting.results_reader import Results, read_results

Record = dict[str, Any]
EVIL = "<script>alert('a')</script>"  # the last method of the made-up record


def mean(value: float, reach: float = 0.02) -> Record:
    return {"value": value, "low": value - reach, "high": value + reach, "n": 3}


def points(shift: float) -> list[Record]:
    """Of four settings three on the frontier."""
    values = [(0.0, 1.0, 0.6, 0.45), (3.0, 1.0, 0.75, 0.4), (6.0, 1.0, 0.85, 0.32), (3.0, 0.6, 0.7, 0.3)]
    return [
        {
            "text_guidance_scale": text,
            "ip_adapter_scale": scale,
            "prompt": mean(x + shift / 2),
            "person": mean(y + shift),
            "on_frontier": scale == 1.0,
        }
        for text, scale, x, y in values
    ]


@pytest.fixture
def measured(record: Record) -> Record:
    """The made-up record with the frontiers of three methods, the last with one point; by another recognizer other ones."""
    own = {
        "text_guidance_scale": None,
        "ip_adapter_scale": None,
        "prompt": mean(0.5),
        "person": mean(0.46),
        "on_frontier": True,
    }
    methods = [
        {"method": "ip-adapter", "area": mean(0.3), "points": points(0.0)},
        {"method": EVIL, "area": mean(0.33), "points": points(0.05)},
        {"method": "dreambooth", "area": mean(0.23), "points": [own]},
    ]
    pairs = [("ip-adapter", EVIL, -0.03, 0.003), ("ip-adapter", "dreambooth", 0.07, 0.06), (EVIL, "dreambooth", 0.1, 0.0004)]
    differences = [{"method": a, "baseline": b, "p_value": p / 3, "p_holm": p, **mean(value, 0.01)} for a, b, value, p in pairs]
    where = {"prompt_set": "attributes", "num_photos": 9, "num_impostors": 0, "prompt_metric": "attribute-accuracy"}
    where |= {"reference_point": [0.0, 0.0], "unavailable": "", "differences": differences}
    judge, read_by = (each["name"] for each in record["results"]["recognizers"])
    other = [{**each, "area": mean(0.9)} for each in methods]
    record["results"]["frontiers"] = [{**where, "recognizer": read_by, "methods": other}]
    record["results"]["frontiers"] += [{**where, "recognizer": judge, "methods": methods}]
    return record


def read(record: Record) -> tuple[Results, Frontier]:
    results = read_results(record)
    frontier = read_frontier(record, results)
    assert frontier is not None
    return results, frontier


def pixels_of(path: Path, place: int) -> np.ndarray:
    """Rows and columns in the colour of a method, in the plot."""
    colour = np.array([int(series_style(place)["color"][k : k + 2], 16) for k in (1, 3, 5)])
    with Image.open(path) as image:
        found = (np.abs(np.asarray(image.convert("RGB")).astype(int) - colour) < 16).all(-1)
    return np.argwhere(found[:, :800])


def test_the_frontier_is_that_of_the_evaluation_recognizer(measured: Record) -> None:
    results, frontier = read(measured)
    assert [each.area.value for each in frontier.methods] == [0.3, 0.33, 0.23]
    assert [each.setting for each in frontier.methods[2].points] == ["its own"]
    turned = frontier.difference("dreambooth", "ip-adapter")
    assert turned is not None
    assert (turned.value, turned.low, turned.high) == pytest.approx((-0.07, -0.08, -0.06))
    measured["results"]["frontiers"][1]["methods"].append(
        {"method": "nobody's", "area": mean(0.1), "points": points(0.0)}
    )  # of which there is no score
    assert len(read(measured)[1].methods) == 3
    del measured["results"]["frontiers"]
    assert read_frontier(measured, results) is None


@pytest.mark.parametrize(
    "damage",
    [{"methods": [{"method": "a", "area": mean(0.1), "points": []}]}, {"reference_point": [0.0]}, {"prompt_set": 3}],
)
def test_what_is_no_frontier_is_refused(measured: Record, damage: Record) -> None:
    measured["results"]["frontiers"][0] |= damage
    with pytest.raises(DataError, match="a record that `tenth experiment` wrote is needed"):
        read_frontier(measured, read_results(measured))


def test_every_method_is_in_the_plot_where_it_belongs(measured: Record, tmp_path: Path) -> None:
    write_frontier(measured, tmp_path / "frontier.png")
    with Image.open(tmp_path / "frontier.png") as image:
        assert image.size == (1200, 800)
    methods = measured["settings"]["methods"]
    first, last = (pixels_of(tmp_path / "frontier.png", methods.index(name)) for name in ("ip-adapter", EVIL))
    assert min(len(first), len(last)) > 300
    assert last[:, 0].min() < first[:, 0].min()  # it keeps the person better
    assert last[:, 1].max() > first[:, 1].max()  # and obeys the prompt better
    with pytest.raises(CheckpointError):
        write_frontier(record_of(measured, area=0.4), tmp_path / "frontier.png", new=True)
    for name in ("a.svg", "b.svg"):
        write_frontier(measured, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert "<script" not in (tmp_path / "a.svg").read_text()


def record_of(record: Record, *, area: float) -> Record:
    """The same record with another area of its first method."""
    other: Record = json.loads(json.dumps(record))
    other["results"]["frontiers"][1]["methods"][0]["area"] = mean(area)
    return other


def test_each_method_has_a_plot_of_its_own_with_its_settings(measured: Record) -> None:
    plots = frontier_plots(*read(measured))
    assert [plot.title for plot in plots] == ["ip-adapter", EVIL, "dreambooth"]
    assert plots[0].note == "area 0.300 [0.280, 0.320]"
    assert all(f">{name}</text>" in plots[0].svg for name in ("0 / 1", "3 / 1", "6 / 1"))
    assert "3 / 0.6" not in plots[0].svg  # beaten
    assert not [colour for plot in plots for colour in COLORS.values() if colour in plot.svg]
    assert not [plot for plot in plots if "<script" in plot.svg]
    assert frontier_plots(*read(measured)) == plots


def test_the_tables_have_areas_differences_and_settings(measured: Record) -> None:
    _, frontier = read(measured)
    table = areas_table(frontier)
    assert table.heads == ["area ↑", f"minus {EVIL}", "minus ip-adapter", "minus dreambooth"]
    (rows,) = table.bodies
    assert [name for name, _ in rows] == [EVIL, "ip-adapter", "dreambooth"]  # the largest first
    cells = rows[0][1]
    assert (cells[0].text, cells[0].interval) == ("0.330", "[0.310, 0.350]")
    assert (cells[1].text, cells[2].text, cells[2].notes) == ("", "+0.030", ("p 0.003",))
    assert [cell.bold for cell in cells] == [False, False, True, True]
    assert [cell.bold for cell in rows[1][1]] == [False, True, False, False]  # p 0.06 is not under 0.05
    settings = points_table(frontier)
    assert settings.heads == ["attribute accuracy ↑", "ID similarity ↑", "on the frontier"]
    assert [len(body) for body in settings.bodies] == [4, 4, 1]
    assert [cells[2].text for _, cells in settings.bodies[0]] == ["yes", "yes", "yes", ""]


def test_the_page_and_the_markdown_show_it(measured: Record, record: Record, tmp_path: Path) -> None:
    text = page(measured, tmp_path)
    section = text[text.index('<section id="the-prompt-against-the-person">') :].partition("</section>")[0]
    assert section.count('<svg class="plot"') == 3
    assert "0.330" in section
    assert EVIL not in section
    shown = markdown(measured)
    assert "## The prompt against the person" in shown
    assert "+0.070 [0.060, 0.080] p 0.060" in shown
    assert EVIL not in shown
    assert "minus &lt;script>" in shown
    measured["results"]["frontiers"][1] |= {"methods": [], "differences": [], "unavailable": "too few prompts"}
    assert '<p class="note">Not measured: too few prompts.</p>' in page(measured, tmp_path)
    assert "The prompt against the person" not in markdown(measured)
    with pytest.raises(DataError, match=r"without a frontier \(too few prompts\)"):
        write_frontier(measured, tmp_path / "frontier.png")
    del record["results"]["frontiers"]
    assert "the-prompt-against-the-person" not in page(record, tmp_path)


def test_the_command_writes_the_frontier_alone(measured: Record, run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_folder / "run.json").write_text(json.dumps(measured))
    target = run_folder / "docs" / "frontier.svg"
    assert main(["report", str(run_folder), "--plot", "frontier", "-o", str(target)]) == 0
    assert target.read_bytes()[:5] == b"<?xml"
    assert "The prompt against the person" in target.read_text()
    assert main(["report", str(run_folder), "--plot", "frontier"]) == 2  # no file for it
    assert main(["report", str(run_folder), "--plot", "curves", "-o", str(target)]) == 2
    assert "curve, frontier" in capsys.readouterr().err
    (run_folder / "run.json").write_text(json.dumps({**measured, "results": {**measured["results"], "frontiers": []}}))
    assert main(["report", str(run_folder), "--plot", "frontier", "-o", str(run_folder / "b.png")]) == 1
    assert "Add [frontier] to the recipe" in capsys.readouterr().err
    assert not (run_folder / "b.png").exists()
