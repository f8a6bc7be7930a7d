"""Ticks: few, round, around what is shown."""

from __future__ import annotations

import pytest

from tenth.reporting.axis import tick_text, ticks


@pytest.mark.parametrize("ends", [(0.0, 1.0), (-0.013, 0.172), (0.2, 0.2), (0.611, 0.6123), (-1.0, 0.0)])
def test_ticks_are_few_and_round_and_reach_around(ends: tuple[float, float]) -> None:
    found = ticks(*ends)
    assert found[0] <= ends[0] + 1e-9
    assert found[-1] >= ends[1] - 1e-9
    assert 2 <= len(found) <= 9
    labels = [tick_text(tick, found) for tick in found]
    assert len(set(labels)) == len(found)
    assert [float(label) for label in labels] == pytest.approx(found)
