"""What the numbers say, in a sentence, and no more than they say."""

from __future__ import annotations

from collections.abc import Sequence

from tenth.core.wording import pluralize
from tenth.reporting.html.elements import Markup, element, joined, series
from tenth.reporting.metric_columns import condition_text, number, short
from tenth.reporting.results_reader import Results

LEVEL = 0.05  # of the corrected p-value


def finding(results: Results, track: str) -> Markup:
    """Which methods are more like the person than the baseline, which less, and which cannot be told apart from it."""
    baseline = results.baseline
    others = [name for name in results.methods if name != baseline]
    found = {name: results.difference(track, name, baseline) for name in others}
    known = {name: each for name, each in found.items() if each is not None}
    if not known:
        return joined([f"This record has no differences to {baseline}, so no method is said to be better."])
    if any(each.p_holm is None for each in known.values()):
        return Markup("This record's p-values are not corrected for the number of comparisons: no method is said to be better.")
    people = max((each.n for each in results.scores if each.metric == "identity"), default=0) or len(results.people)
    who = pluralize(people, "person")
    start = f"With {condition_text(results.main)} of each of {who}, judged by {short(results.judge.name)}, "
    sure = {name: each.value for name, each in known.items() if (each.p_holm or 0.0) < LEVEL}
    above = [name for name in known if sure.get(name, 0.0) > 0]
    below = [name for name in known if sure.get(name, 0.0) < 0]
    level = [name for name in known if name not in above + below]
    compared = (("more like the person than ", above), ("less like the person than ", below))
    said = [joined([_strong(names), _are(names), words, _strong([baseline])]) for words, names in compared if names]
    if level:
        said.append(joined([_strong(level), " cannot be told apart from ", "it" if said else _strong([baseline])]))
    if missing := [name for name in others if name not in known]:
        said.append(joined([_strong(missing), _are(missing), "not compared with it"]))
    hedge = "" if results.judge.headline else " For choosing only: a method has read this recogniser."
    return joined([start, series(said, "; ", "; "), f" (corrected p < {LEVEL:g}).", hedge])


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
