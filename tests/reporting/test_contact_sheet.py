"""The contact sheet: what stands where, and that it says what it was told."""

from __future__ import annotations

import numpy as np
import pytest

from tenth.core.errors import DataError
from tenth.core.types import Pixels
from tenth.reporting.contact_sheet import (
    IMAGE,
    MAX_FULL_SIZE,
    MAX_GRID_COLUMNS,
    REFERENCE,
    WHITE,
    SheetGrid,
    SheetImage,
    SheetRow,
    contact_sheet,
    grid_sheet,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(colour: tuple[int, int, int], height: int = 128, width: int = 128) -> Pixels:
    return np.full((height, width, 3), colour, np.uint8)


def sheet(references: int = 1, columns: int = 2, title: str = "a prompt\ndetails") -> Pixels:
    rows = [SheetRow("one", "1 s", [picture(GREEN)] * columns), SheetRow("two", "2 s", [picture(BLUE)] * columns)]
    return np.asarray(contact_sheet([picture(RED)] * references, rows, title, [f"seed {seed}" for seed in range(columns)]))


def count(pixels: Pixels, colour: tuple[int, int, int]) -> int:
    return int((pixels == colour).all(-1).sum())


def test_every_image_is_there_at_its_size() -> None:
    pixels = sheet(references=3, columns=2)
    assert count(pixels, RED) == 3 * REFERENCE**2
    assert count(pixels, GREEN) == count(pixels, BLUE) == 2 * IMAGE**2


def test_references_stand_above_the_rows_in_their_order() -> None:
    tops = [int(np.nonzero((sheet() == colour).all(-1))[0].min()) for colour in (RED, GREEN, BLUE)]
    assert tops == sorted(tops)


def test_the_margins_are_white_and_equal() -> None:
    rows, columns = np.nonzero((sheet(columns=1, title="a") != WHITE).any(-1))
    height, width = sheet(columns=1, title="a").shape[:2]
    assert columns.min() >= 72
    assert width - 1 - columns.max() == height - 1 - rows.max() == 72


@pytest.mark.parametrize(("references", "columns"), [(0, 1), (1, 1), (9, 4), (40, 1), (1, 9)])
def test_any_number_of_references_and_columns_fits(references: int, columns: int) -> None:
    pixels = sheet(references, columns)
    assert count(pixels, RED) == references * REFERENCE**2
    assert count(pixels, GREEN) == columns * IMAGE**2


def test_a_long_title_is_broken_into_lines() -> None:
    assert sheet(title="word " * 60).shape[1] == sheet(title="word").shape[1]
    assert sheet(title="word " * 60).shape[0] > sheet(title="word").shape[0]


def test_a_image_that_is_not_square_is_shown_whole() -> None:
    shown = np.asarray(contact_sheet([], [SheetRow("one", "", [picture(GREEN, 128, 64)])], "", ["0"]))
    assert count(shown, GREEN) == IMAGE * IMAGE // 2


def test_the_same_input_gives_the_same_bytes() -> None:
    assert sheet().tobytes() == sheet().tobytes()


def test_a_row_with_another_number_of_images_is_refused() -> None:
    with pytest.raises(DataError, match="the row one has 1 images and the sheet 2 columns"):
        contact_sheet([], [SheetRow("one", "", [picture(GREEN)])], "", ["0", "1"])


def grid(columns: int, rows: int = 1, groups: int = 1, heading: str = "value") -> Pixels:
    count = columns * rows * groups
    images = [SheetImage(picture(GREEN if index % columns else BLUE), "identity 0.71") for index in range(count)]
    headings = [[f"{heading} {index}" for index in range(number)] for number in (columns, rows, groups)]
    return np.asarray(
        grid_sheet([picture(RED)], SheetGrid(images, headings[0], *headings[1 : 1 + (rows > 1) + (groups > 1)]), "a")
    )


@pytest.mark.parametrize(("columns", "rows", "groups"), [(1, 1, 1), (2, 3, 1), (3, 2, 2), (23, 1, 1), (12, 2, 2)])
def test_a_grid_shows_every_image_once(columns: int, rows: int, groups: int) -> None:
    pixels = grid(columns, rows, groups)
    assert count(pixels, BLUE) == rows * groups * IMAGE**2
    assert count(pixels, GREEN) == (columns - 1) * rows * groups * IMAGE**2
    lines = rows * groups * -(-columns // MAX_GRID_COLUMNS)
    assert pixels.shape[0] > lines * IMAGE
    assert pixels.shape[1] < (MAX_GRID_COLUMNS + 3) * IMAGE


def test_many_images_of_a_grid_are_smaller() -> None:
    assert count(grid(MAX_FULL_SIZE + 1), BLUE) == REFERENCE**2
    assert grid(1_000).shape[1] < 12 * IMAGE


@pytest.mark.parametrize("heading", ["word " * 100, "w" * 10_000])
def test_headings_of_a_grid_are_cut_to_their_place(heading: str) -> None:
    pixels = grid(2, 2, 1, heading)
    assert count(pixels, BLUE) == 2 * IMAGE**2
    assert count(pixels, GREEN) == 2 * IMAGE**2
    assert pixels.shape[0] < grid(2, 2).shape[0] + IMAGE
