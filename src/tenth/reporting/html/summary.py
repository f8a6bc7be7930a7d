"""What the numbers say, and no more than they say; templates/summary.html.j2 has the words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenth.reporting.results_reader import Results
from tenth.reporting.tables import LEVEL

# The controls on either side of a method, and how a sentence about their similarity begins.
ANCHORS = {"real photos": "real photos score", "no identity": "images without an identity"}


@dataclass(frozen=True)
class Finding:
    """Methods against the baseline on some prompt sets: significantly above, below, neither, and not compared.

    known: whether any was compared; corrected: whether all p-values are corrected for the number of comparisons.
    """

    above: Sequence[str]
    below: Sequence[str]
    level: Sequence[str]
    missing: Sequence[str]
    known: bool
    corrected: bool


@dataclass(frozen=True)
class Scale:
    """The best method's similarity between its anchors. anchors: sentence parts and values that there are."""

    best: str
    value: float
    anchors: Sequence[tuple[str, float]]
    above_real: bool


def findings(results: Results) -> list[tuple[list[str], Finding]]:
    """(prompt sets, finding): sets with the same finding together, in their order."""
    grouped: list[tuple[list[str], Finding]] = []
    for prompt_set in results.scored:
        found = finding(results, prompt_set)
        same = next((prompt_sets for prompt_sets, other in grouped if other == found), None)
        if same is None:
            grouped.append(([prompt_set], found))
        else:
            same.append(prompt_set)
    return grouped


def finding(results: Results, prompt_set: str) -> Finding:
    """Which methods have a higher similarity than the baseline, which a lower, and which cannot be told apart from it."""
    others = [name for name in results.methods if name != results.baseline]
    found = {name: results.difference(prompt_set, name, results.baseline) for name in others}
    known = {name: each for name, each in found.items() if each is not None}
    sure = {name: each.value for name, each in known.items() if each.p_holm is not None and each.p_holm < LEVEL}
    above = [name for name in known if sure.get(name, 0.0) > 0]
    below = [name for name in known if sure.get(name, 0.0) < 0]
    level = [name for name in known if name not in above + below]
    missing = [name for name in others if name not in known]
    return Finding(above, below, level, missing, bool(known), all(each.p_holm is not None for each in known.values()))


def scale_of(results: Results, prompt_set: str) -> Scale | None:
    """The best similarity, with that of real photos and of images without an identity; None without any value."""
    cells = {name: results.measured(prompt_set, name) for name in results.names}
    values = {name: cell.value for name, cell in cells.items() if cell}
    best = max((name for name in results.methods if name in values), key=lambda name: values[name], default=None)
    if best is None:
        return None
    anchors = [(words, values[name]) for name, words in ANCHORS.items() if name in values]
    return Scale(best, values[best], anchors, values[best] > values.get("real photos", 1.0))
