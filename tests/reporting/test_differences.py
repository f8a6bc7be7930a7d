"""A difference in its other direction, whatever kind of difference it is."""

from __future__ import annotations

import pytest

from tenth.reporting.differences import in_both_directions, turned
from tenth.reporting.frontier.record import AreaDifference
from tenth.reporting.results_reader import Difference

PAIRED = Difference("portrait", 9, "a", "b", "identity-similarity", 0.1, 0, "r", 0.05, 0.2, 0.01, 0.02, 0.75, 53)
AREA = AreaDifference("a", "b", 0.1, None, 0.2, 0.01, 0.02)


@pytest.mark.parametrize("difference", [PAIRED, AREA])
def test_turned_twice_it_is_itself(difference: Difference | AreaDifference) -> None:
    other = turned(difference)
    assert (other.method, other.baseline, other.value, other.low) == ("b", "a", -0.1, -0.2)
    assert (other.p_value, other.p_holm) == (0.01, 0.02)
    assert turned(other) == difference


def test_each_direction_is_found_and_what_is_recorded_comes_first() -> None:
    own = turned(PAIRED)
    found = in_both_directions([("x", PAIRED), ("y", PAIRED)])
    assert found["x", "a", "b"] == PAIRED
    assert found["y", "b", "a"] == own
    assert own.win_rate == 0.25
    assert own.n == 53
    both = in_both_directions([(None, PAIRED), (None, turned(AREA))])  # of two records of one pair the first
    assert both[None, "b", "a"] == own
