"""The curve: every line is there in its colour, higher scores are higher, and what is missing is left out."""

from __future__ import annotations

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Pixels, Score
from tenth.reporting.curve_plot import BOTTOM, COLOURS, RIGHT, SHAPES, TOP, Line, curve

FLOOR = Score("identity", 0.02, 0.0, 0.04, 53)


def score(value: float | None, width: float = 0.02) -> Score:
    return Score("identity", value) if value is None else Score("identity", value, value - width, value + width, 53)


def drawn(*lines: Line, floor: Score = FLOOR) -> Pixels:
    return np.asarray(curve(lines, floor, "Title", "A note."))


def alike(pixels: Pixels, place: int) -> np.ndarray:
    """Which pixels have the colour of the place-th line, or nearly: edges are smooth."""
    return (np.abs(pixels.astype(int) - COLOURS[place]) < 16).all(-1)


def where(pixels: Pixels, place: int, right: int = RIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns within the plot in the colour of the place-th line."""
    return np.nonzero(alike(pixels[TOP:BOTTOM, :right], place))


def test_every_line_is_in_the_plot_and_in_the_legend() -> None:
    lines = [Line(f"method {place}", {1: score(0.1), 9: score(0.2 + place / 20)}) for place in range(6)]
    pixels = drawn(*lines)
    assert pixels.shape == (800, 1200, 3)
    for place in range(6):
        assert len(where(pixels, place)[0]) > 200
        assert alike(pixels[:, RIGHT:], place).sum() > 60


def test_more_is_higher_and_a_wider_interval_is_taller() -> None:
    flat, rising = Line("flat", {1: score(0.2), 5: score(0.2)}), Line("rising", {1: score(0.2), 5: score(0.4, 0.08)})
    pixels = drawn(flat, rising)
    tops = {place: where(pixels, place)[0].min() for place in (0, 1)}
    assert tops[1] < tops[0]
    heights = {place: np.ptp(where(pixels, place)[0]) for place in (0, 1)}
    assert heights[1] > 2 * heights[0]


def test_a_wrong_photo_stands_apart_at_the_right() -> None:
    points = {1: score(0.2), 9: score(0.3)}
    plain, apart = drawn(Line("a", points)), drawn(Line("a", points, {"9 photos, 1 wrong": score(0.1)}))
    rows, columns = where(apart, 0)
    assert RIGHT - 100 < columns[rows.argmax()] < RIGHT  # the lowest is at the far right
    assert where(plain, 0)[0].max() < rows.max()


def test_a_score_without_value_or_interval_is_left_out() -> None:
    points = {1: Score("identity", 0.2), 5: score(None), 9: score(0.3)}
    pixels = drawn(Line("a", points), Line("b", {1: score(None), 9: score(None)}), floor=score(None))
    assert len(where(pixels, 0)[0])
    assert not len(where(pixels, 1)[0])
    assert not len(where(drawn(Line("b", {1: score(None), 9: score(None)}), floor=score(None)), 0)[0])


def test_one_number_of_photos_is_no_curve() -> None:
    with pytest.raises(DataError, match="two are needed"):
        drawn(Line("a", {9: score(0.2)}))


def test_more_methods_than_colours_stay_apart() -> None:
    signs = {(COLOURS[place % len(COLOURS)], SHAPES[place % len(SHAPES)]) for place in range(56)}
    assert len(signs) == 56
    assert drawn(*(Line(f"{place}" * 99, {1: score(0.1), 2: score(0.2)}) for place in range(30))).shape == (800, 1200, 3)
