"""The numbers along an axis: few, round, and reaching around what is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ticks(low: float, high: float) -> list[float]:
    """Round numbers around both, four to eight steps of 1, 2 or 5 times a power of ten."""
    room = max(high - low, 1e-3) / 6
    power = 10.0 ** math.floor(math.log10(room))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= room)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, max(last, first + 1) + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many digits as tell it from its neighbours."""
    places = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick:.{places}f}"
