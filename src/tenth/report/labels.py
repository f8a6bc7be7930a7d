"""Labels in a column beside a picture: each as near as can be to where it belongs, none on another."""

from __future__ import annotations

from collections.abc import Sequence


def spread(wanted: Sequence[float], step: float, top: float, bottom: float) -> list[float]:
    """Heights at least `step` apart, in the order of the wanted ones, between top and bottom if that many fit.

    Neighbours that are too near are a block, which stands where its labels want to be on the average.
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    blocks: list[list[int]] = []
    for place in order:
        blocks.append([place])
        while len(blocks) > 1 and _top(blocks[-2], wanted, step) + step * len(blocks[-2]) > _top(blocks[-1], wanted, step):
            last = blocks.pop()
            blocks[-1] += last
    heights, least = [0.0] * len(wanted), top
    for number, block in enumerate(blocks):
        below = sum(len(other) for other in blocks[number:])
        first = max(least, min(_top(block, wanted, step), bottom - step * (below - 1)))
        for row, place in enumerate(block):
            heights[place] = first + step * row
        least = first + step * len(block)
    return heights


def _top(block: Sequence[int], wanted: Sequence[float], step: float) -> float:
    """Where the first label of a block stands."""
    middle = sum(wanted[place] for place in block) / len(block)
    return middle - step * (len(block) - 1) / 2
