"""What may be said of a record: every sentence that compares methods, and none says more than the corrected p-value.

A sentence is Markdown, with methods in backticks; the page shows them in bold.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from tenth.core.wording import pluralize
from tenth.reporting.metric_columns import interval, label, number
from tenth.reporting.results_reader import IDENTITY, Difference, Results

LEVEL = 0.05  # significance level, for p-values that Holm's method has corrected
MAX_NAMES = 3  # in a series, where more can be called all others
# The controls on either side of a method, and how a sentence calls them.
ANCHORS = {"real photos": "real photos have", "no identity": "images without an identity"}
UNCORRECTED = "The p-values of this record are not corrected for the number of comparisons, so no method is called better."
SELECTION_ONLY = "For model selection only: a method is conditioned on this recognizer."
NO_COMPLETE = "Each row lacks people whom another has, so none is called the best."
ABOVE_REAL = "A higher similarity than that of real photos is a warning, not a success: see the copy-paste index."


class Verdict(StrEnum):
    """A method against another one: its similarity is higher or lower, or neither was shown, or they were not compared."""

    HIGHER = "higher"
    LOWER = "lower"
    LEVEL = "level"
    UNKNOWN = "unknown"


def verdict(difference: Difference | None) -> Verdict:
    """What a difference shows: something only where its corrected p-value is below LEVEL."""
    if difference is None or difference.p_holm is None:
        return Verdict.UNKNOWN
    if difference.p_holm >= LEVEL or difference.value == 0:
        return Verdict.LEVEL
    return Verdict.HIGHER if difference.value > 0 else Verdict.LOWER


def finding(results: Results, prompt_set: str) -> list[str]:
    """The sentences of a prompt set: the method with the highest mean against all others, then all against each baseline."""
    if any(difference.p_holm is None for difference in _main_differences(results, prompt_set)):
        return [UNCORRECTED]
    ranked = ranking(results, prompt_set)
    complete = [name for name in ranked if name not in results.partial]
    others = [name for name in baselines(results) if name in complete[1:]]
    first = _of_the_first(results, prompt_set, complete)
    return [*(first or [NO_COMPLETE] * bool(ranked)), *(against(results, prompt_set, name) for name in others)]


def notes(results: Results, prompt_set: str) -> list[str]:
    """What must be known with a finding: that its recognizer is no judge, a row lacks people, or one is above real photos."""
    ranked, real = ranking(results, prompt_set), results.measured(prompt_set, "real photos")
    said = [SELECTION_ONLY] if ranked and results.recognizer.selection_only else []
    complete = [name for name in ranked if name not in results.partial]
    said += [_of_some_people(results, prompt_set, name, complete[:1]) for name in ranked if name in results.partial]
    values = [found.value for name in ranked if (found := results.measured(prompt_set, name))]
    return [*said, ABOVE_REAL] if real and max(values, default=real.value) > real.value else said


def pair(results: Results, prompt_set: str, method: str, baseline: str) -> str:
    """Two methods in a clause without a full stop: who has the higher similarity, if that is shown, and the difference."""
    found = results.difference(prompt_set, method, baseline)
    words = {
        Verdict.HIGHER: f"{named(method)} has a higher {label(IDENTITY)} than {named(baseline)}",
        Verdict.LOWER: f"{named(method)} has a lower {label(IDENTITY)} than {named(baseline)}",
        Verdict.LEVEL: f"{named(method)} does not differ significantly from {named(baseline)} in {label(IDENTITY)}",
        Verdict.UNKNOWN: f"{named(method)} was not compared with {named(baseline)}",
    }[verdict(found)]
    if found is None or found.p_holm is None:
        return words
    ends = interval(found.low, found.high, 3)
    whose = f", on the {pluralize(found.n, 'person')} of both" if {method, baseline} & set(results.partial) else ""
    return f"{words}{whose}: {number(found.value, 3, signed=True)} {ends}, corrected {p_text(found.p_holm)}".replace("  ", " ")


def against(results: Results, prompt_set: str, baseline: str) -> str:
    """All methods against one: who has a higher similarity, who a lower one, and who does not differ significantly.

    Those that lack people are left to `notes`.
    """
    others = [name for name in ranking(results, prompt_set) if name != baseline and name not in results.partial]
    groups, it = _grouped(results, prompt_set, baseline, others), named(baseline)
    higher, lower = (("has a higher one", "have a higher one"), ("has a lower one", "have a lower one"))
    clauses = _clauses(groups, {Verdict.HIGHER: higher, Verdict.LOWER: lower})
    estimate = results.measured(prompt_set, baseline)
    value = f", {number(estimate.value, 3)}" if estimate else ""
    return f"Against the {label(IDENTITY)} of {it}{value}: {clauses}."


def ranking(results: Results, prompt_set: str) -> list[str]:
    """Methods that have a similarity at the main condition, the highest mean first; those that lack people come last."""
    found = {name: results.measured(prompt_set, name) for name in results.methods}
    values = {name: each.value for name, each in found.items() if each}
    return sorted(values, key=lambda name: (name in results.partial, -values[name]))


def baselines(results: Results) -> list[str]:
    """The recipe's baselines that were measured, or the one that stands for them."""
    return [name for name in results.baselines if name in results.methods] or [results.baseline]


def p_text(p_value: float) -> str:
    """'p 0.012', with as many digits as it takes to be on its side of LEVEL."""
    if p_value < 0.001:
        return "p < 0.001"
    text = f"{p_value:.3f}"
    return f"p {text if (float(text) < LEVEL) == (p_value < LEVEL) else f'{p_value:.5f}'}"


def named(method: str) -> str:
    """A method as code, without what would end the code."""
    return f"`{' '.join(method.split()).replace('`', chr(39))}`"


def _of_the_first(results: Results, prompt_set: str, ranked: Sequence[str]) -> list[str]:
    """Whose mean is the highest, what the controls have, and from whom that method is told apart; nothing without a method."""
    first = ranked[0] if ranked else ""
    estimate = results.measured(prompt_set, first)
    if estimate is None:
        return []
    ends = interval(estimate.low, estimate.high, 3) if estimate.low < estimate.high else ""
    known = {words: results.measured(prompt_set, name) for name, words in ANCHORS.items()}
    scale = " and ".join(f"{words} {number(anchor.value, 3)}" for words, anchor in known.items() if anchor)
    value = " ".join(filter(None, (number(estimate.value, 3), ends, f"({scale})" if scale else "")))
    groups = _grouped(results, prompt_set, first, ranked[1:])
    clauses = _clauses(groups, {Verdict.LOWER: ("is lower", "are lower"), Verdict.HIGHER: ("is higher", "are higher")})
    tested = any(groups[each] for each in Verdict if each is not Verdict.UNKNOWN)
    test = f" (at a level of {LEVEL:g} after Holm's correction)" if tested else ""
    has = f"the highest mean {label(IDENTITY)}," if ranked[1:] else f"the mean {label(IDENTITY)}"
    return [f"{named(first)} has {has} {value}{': ' if clauses else ''}{clauses}{test}."]


def _of_some_people(results: Results, prompt_set: str, name: str, first: Sequence[str]) -> str:
    """Of how many people a row is that lacks some, and on the people of both what the first row is to it."""
    own, everybody = results.partial[name]
    said = f"{named(name)} is of {own:,} of {pluralize(everybody, 'person')}, so its mean is not compared with others' means"
    found = [pair(results, prompt_set, name, other) for other in first]
    return f"{'; '.join([said, *found])}."


def _grouped(results: Results, prompt_set: str, baseline: str, others: Sequence[str]) -> dict[Verdict, list[str]]:
    """The others by what their difference to the baseline shows."""
    groups: dict[Verdict, list[str]] = {each: [] for each in Verdict}
    for name in others:
        groups[verdict(results.difference(prompt_set, name, baseline))].append(name)
    return groups


def _clauses(groups: dict[Verdict, list[str]], told_apart: dict[Verdict, tuple[str, str]]) -> str:
    """What each group of methods is, in one clause each; the largest of them is 'all others' where it has more than three.

    told_apart: the verb of one method, and of several, for those that differ.
    """
    verbs = {
        **told_apart,
        Verdict.LEVEL: ("does not differ significantly from it", "do not differ significantly from it"),
        Verdict.UNKNOWN: ("was not compared with it", "were not compared with it"),
    }
    largest = max(groups, key=lambda each: len(groups[each]))
    alone = sum(map(bool, groups.values())) == 1
    rest = len(groups[largest]) > (1 if alone else MAX_NAMES)
    clauses = [_clause(groups[each], *verbs[each]) for each in verbs if groups[each] and not (rest and each is largest)]
    if rest:
        others = "other method" if alone else "other"
        level = largest is Verdict.LEVEL
        clauses.append(f"no {others} differs significantly from it" if level else f"all {others}s {verbs[largest][1]}")
    return "; ".join(clauses)


def _clause(names: Sequence[str], one: str, many: str) -> str:
    """The names and their verb."""
    *first, last = map(named, names)
    return f"{', '.join(first)} and {last} {many}" if first else f"{last} {one}"


def _main_differences(results: Results, prompt_set: str) -> list[Difference]:
    """All pairs of methods at the main condition."""
    found = [results.difference(prompt_set, a, b) for a in results.methods for b in results.methods if a != b]
    return [difference for difference in found if difference is not None]
