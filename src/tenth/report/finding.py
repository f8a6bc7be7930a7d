"""What the numbers say, in a sentence, and no more than they say."""

from __future__ import annotations

from collections.abc import Sequence

from tenth.report.columns import condition_text, number, short
from tenth.report.markup import Markup, element, joined, series
from tenth.report.results import Results

LEVEL = 0.05  # of the corrected p-value


def finding(results: Results, track: str) -> Markup:
    """Which methods are more like the person than the baseline, which less, and which cannot be told apart from it."""
    baseline = results.baseline
    others = [name for name in results.methods if name != baseline]
    found = {name: results.difference(track, name, baseline) for name in others}
    known = {name: each for name, each in found.items() if each is not None}
    people = max((each.n for each in results.scores if each.metric == "identity"), default=0) or len(results.people)
    start = f"With {condition_text(results.main)} of each of {people} people, judged by {short(results.judge.name)}, "
    if not known:
        return joined([start, f"no differences were taken to {baseline}, so no method is said to be better."])
    if any(each.p_holm is None for each in known.values()):
        return joined([start, "p-values are not corrected for the number of comparisons, so no method is said to be better."])
    sure = {name: each.value for name, each in known.items() if (each.p_holm or 0.0) < LEVEL}
    above = [name for name in known if sure.get(name, 0.0) > 0]
    below = [name for name in known if sure.get(name, 0.0) < 0]
    level = [name for name in known if name not in above + below]
    parts = [
        (above, "more like the person than ", _strong([baseline])) if above else None,
        (below, "less like the person" + ("" if above else " than "), None if above else _strong([baseline]))
        if below
        else None,
    ]
    said = [joined([_strong(names), _are(names), words, rest]) for names, words, rest in filter(None, parts)]
    if not said:
        said = [joined(["no method is told apart from ", _strong([baseline])])]
    elif level:
        said.append(joined([_strong(level), " cannot be told apart from it"]))
    return joined([start, series(said, "; ", "; "), f" (corrected p < {LEVEL:g})."])


def scale_of_it(results: Results, track: str) -> Markup:
    """The best similarity between its anchors: real photos above, nobody below. A warning where it is above real photos."""
    judge = results.judge.name
    cells = {name: results.find(track, name, "identity", judge) for name in results.names}
    scores = {name: cell.value for name, cell in cells.items() if cell is not None and cell.value is not None}
    methods = {name: scores[name] for name in results.methods if name in scores}
    if not methods:
        return Markup("")
    best = max(methods, key=lambda name: methods[name])
    anchors = [f"{words} {number(scores[name], 3)}" for name, words in ANCHORS.items() if name in scores]
    start = f"The highest identity is {number(methods[best], 3)}, by {best}"
    scale = joined(["; ", series(anchors), "."]) if anchors else "."
    above = methods[best] > scores.get("real photos", 1.0)
    return joined([start, scale, " Above real photos is a warning, not a success: read the copy index." if above else None])


ANCHORS = {"real photos": "real photos score", "no identity": "a face that is nobody's"}


def _are(names: Sequence[str]) -> str:
    return " is " if len(names) == 1 else " are "


def _strong(names: Sequence[str]) -> Markup:
    return series([element("b", name) for name in names])
