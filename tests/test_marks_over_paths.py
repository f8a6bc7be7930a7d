"""Marks over all paths, with few pictures; `tests/marks_over_paths.py` makes as many as one likes."""

from __future__ import annotations

from pathlib import Path

import pytest

from marks_over_paths import mark_all_paths


@pytest.mark.slow
def test_whatever_way_a_picture_takes_it_is_marked(tmp_path: Path) -> None:
    counts = mark_all_paths(tmp_path, 16)
    sheet = 1
    assert counts == {
        "images": 2 + sheet,
        "grid": 2 + sheet,
        "candidates": 2 + 2 + sheet,  # the kept ones are copies
        "library": 2 + sheet,
        "image": 2,
        "thumbnail": 2,
        "zip": 2,
        "openai": 2,
        "unmarked": 2,
    }
