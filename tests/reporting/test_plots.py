"""The plots: every method is there, higher is higher, what is missing is left out, and the same input gives the same bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.core.run_record import read_record
from tenth.core.types import Pixels
from tenth.reporting import plot_style
from tenth.reporting.plot_style import COLORS, MARKERS, SERIES, can_plot, series_style
from tenth.reporting.plots import scatter, small_multiples, write_curve
from tenth.reporting.results_reader import IDENTITY, Results, read_results

ROOT = Path(__file__).parents[2]
Record = dict[str, Any]


def curve(record: Record, tmp_path: Path) -> Pixels:
    write_curve(read_results(record), tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        return np.asarray(image.convert("RGB"))


def where(pixels: Pixels, place: int, legend: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns in the colour of the place-th method, in the plot or in its legend."""
    colour = np.array([int(series_style(place)["color"][k : k + 2], 16) for k in (1, 3, 5)])
    found = (np.abs(pixels.astype(int) - colour) < 16).all(-1)
    found[:, :870] &= not legend
    found[:, 870:] &= legend
    return np.nonzero(found)


def set_identity(record: Record, place: int, values: dict[tuple[int, int], float | None]) -> None:
    """What the place-th method scores under each condition (photos, num_impostors)."""
    method = record["settings"]["methods"][place]
    for each in record["results"]["scores"]:
        if (each["method"], each["metric"]) == (method, IDENTITY) and (each["num_photos"], each["num_impostors"]) in values:
            value = values[each["num_photos"], each["num_impostors"]]
            ends = (None, None) if value is None else (value - 0.02, value + 0.02)
            each |= {"value": value, "low": ends[0], "high": ends[1]}


def test_every_method_is_in_the_plot_and_in_the_legend(record: Record, tmp_path: Path) -> None:
    pixels = curve(record, tmp_path)
    assert pixels.shape == (800, 1200, 3)
    for place in range(5):
        assert len(where(pixels, place)[0]) > 200
        assert len(where(pixels, place, legend=True)[0]) > 40


def test_more_is_higher_and_another_persons_photo_stands_apart(record: Record, tmp_path: Path) -> None:
    set_identity(record, 0, {(1, 0): 0.3, (5, 0): 0.3, (9, 0): 0.3, (9, 1): 0.3})
    set_identity(record, 3, {(1, 0): 0.3, (5, 0): 0.4, (9, 0): 0.5, (9, 1): 0.1})
    pixels = curve(record, tmp_path)
    rows, columns = where(pixels, 3)
    assert rows.min() < where(pixels, 0)[0].min()
    assert columns[rows.argmin()] < columns[rows.argmax()]  # the highest is at nine photos, the lowest to the right of it
    assert rows.max() > where(pixels, 0)[0].max() + 50


def test_a_wider_interval_is_taller(record: Record, tmp_path: Path) -> None:
    every = dict.fromkeys([(1, 0), (5, 0), (9, 0), (9, 1)], 0.3)
    set_identity(record, 0, every)
    set_identity(record, 1, every)
    for each in record["results"]["scores"]:
        if (each["method"], each["metric"]) == (record["settings"]["methods"][1], IDENTITY):
            each |= {"low": 0.2, "high": 0.4}
    pixels = curve(record, tmp_path)
    heights = [np.ptp(where(pixels, place)[0]) for place in (0, 1)]
    assert heights[1] > 3 * heights[0]


def test_a_score_without_value_or_interval_is_left_out(record: Record, tmp_path: Path) -> None:
    set_identity(record, 3, dict.fromkeys([(1, 0), (5, 0), (9, 0), (9, 1)]))
    for each in record["results"]["scores"]:
        if each["method"] == "ip-adapter-avg":
            each |= {"low": None, "high": None}
    pixels = curve(record, tmp_path)
    assert len(where(pixels, 1)[0]) > 200
    found = read_results(record)
    assert [plot.title for plot in small_multiples(found, "portrait")] == [
        name for name in found.methods if name != "dreambooth"
    ]
    assert "dreambooth" not in scatter(found, "portrait")[1].svg


def test_one_number_of_photos_is_no_curve(record: Record, tmp_path: Path) -> None:
    record["results"]["scores"] = [each for each in record["results"]["scores"] if each["num_photos"] == 9]
    assert small_multiples(read_results(record), "portrait") == []
    with pytest.raises(DataError, match="two are needed"):
        write_curve(read_results(record), tmp_path / "curve.png")
    assert not list(tmp_path.iterdir())


def test_a_method_has_one_colour_in_every_plot(record: Record) -> None:
    kept = [each for each in record["results"]["scores"] if each["prompt_set"] == "portrait" or each["method"] == "dreambooth"]
    record["results"]["scores"] = kept
    colour = series_style(3)["color"]
    for prompt_set in ("portrait", "attributes"):
        (alone,) = [
            plot for plot in scatter(read_results(record), prompt_set) if "alone" in plot.title or plot.title == "Methods"
        ]
        assert colour in alone.svg
        assert (series_style(0)["color"] in alone.svg) == (prompt_set == "portrait")


def test_more_methods_than_colours_stay_apart(record: Record, tmp_path: Path) -> None:
    assert len({tuple(series_style(place).values()) for place in range(56)}) == 56 == len(SERIES) * len(MARKERS)
    renamed = json.dumps(record)
    for place in range(30):
        extra = json.loads(renamed)["results"]["scores"]
        record["results"]["scores"] += [each | {"method": f"{place}" * 60} for each in extra if each["method"] == "dreambooth"]
    assert curve(record, tmp_path).shape == (800, 1200, 3)


def test_the_same_input_gives_the_same_bytes(record: Record, tmp_path: Path) -> None:
    results = read_results(record)
    for name in ("a.png", "b.png", "a.svg", "b.svg"):
        write_curve(results, tmp_path / name)
    for kind in ("png", "svg"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    assert "dc:date" not in (tmp_path / "a.svg").read_text()
    assert small_multiples(results, "portrait") == small_multiples(results, "portrait")
    assert scatter(results, "portrait") == scatter(results, "portrait")


def test_plots_in_the_page_take_its_colours_and_its_font(record: Record) -> None:
    results = read_results(record)
    style = (Path(plot_style.__file__).parent / "html/templates/page.css").read_text()
    for plot in (*small_multiples(results, "portrait"), *scatter(results, "portrait")):
        assert not [colour for colour in COLORS.values() if colour in plot.svg]
        assert "font-family" not in plot.svg
        assert "DejaVu" not in plot.svg
        used = set(re.findall(r"var\(--(\w+)\)", plot.svg))
        assert {"soft", "rule"} <= used <= set(COLORS)
        assert "<text" in plot.svg
        assert len(plot.svg) < 40_000
    for name, colour in COLORS.items():
        short = colour if len(set(colour[1:])) > 1 else colour[:4]
        assert f"--{name}: {short};" in style  # light, the first of the two


def test_a_name_is_shown_as_it_is_and_becomes_no_code(record: Record, tmp_path: Path) -> None:
    named = json.loads(json.dumps(record).replace('"dreambooth"', '"_runs/$a$/\\u4eba"'))
    plots = scatter(read_results(named), "portrait")
    assert "_runs/$a$/\u4eba</text>" in plots[1].svg
    for plot in small_multiples(read_results(named), "portrait") + plots:
        assert "<script" not in plot.svg
    write_curve(read_results(named), tmp_path / "curve.svg")
    assert "_runs/$a$/\u4eba</text>" in (tmp_path / "curve.svg").read_text()


@pytest.mark.parametrize("name", ["curve-test"])
def test_the_documents_curve_is_the_records(name: str, tmp_path: Path) -> None:
    results: Results = read_results(read_record(ROOT / "results" / name, command="experiment"))
    write_curve(results, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as made, Image.open(ROOT / "docs" / "curve.png") as shown:
        assert made.size == shown.size
        both = [np.asarray(image.convert("L")).astype(int) for image in (made, shown)]
    assert np.abs(both[0] - both[1]).mean() < 1  # another version of matplotlib moves letters a little


def test_matplotlib_is_found_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_plot()
    monkeypatch.setattr("tenth.reporting.plot_style.find_spec", lambda _: None)
    assert not can_plot()
