"""Labels beside a picture: apart, in order, near where they belong."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tenth.reporting.html.scatter_plot import spread


def test_labels_that_have_room_stay_where_they_are() -> None:
    assert spread([300.0, 10.0, 100.0], 17, 0, 400) == [300.0, 10.0, 100.0]


@pytest.mark.parametrize(
    "wanted",
    [
        [200.0] * 9,
        [0.0] * 9,
        [400.0] * 9,
        [100, 101, 102, 300, 301, 399, 400],
        [400.0, 0.0, 399.0, 1.0],
        [200, 201, 217, 218, 235],
    ],
)
def test_labels_are_apart_in_order_and_inside(wanted: list[float]) -> None:
    found = spread(wanted, 17, 0, 400)
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    heights = [found[place] for place in order]
    assert all(later - earlier >= 17 - 1e-9 for earlier, later in pairwise(heights))
    assert min(found) >= 0
    assert max(found) <= 400


def test_a_crowd_stands_around_its_middle() -> None:
    found = spread([200.0, 200.0, 200.0], 20, 0, 400)
    assert sorted(found) == [180.0, 200.0, 220.0]


def test_more_labels_than_room_go_on_below() -> None:
    found = spread([5.0] * 30, 17, 0, 400)
    assert sorted(found) == [17.0 * row for row in range(30)]
