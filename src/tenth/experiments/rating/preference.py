"""How often one system was chosen over the other, with an interval over people; and how far raters agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

from tenth.core.errors import DataError
from tenth.core.wording import pluralize
from tenth.evaluation.metrics.bootstrap import Interval, paired_difference, share_interval
from tenth.experiments.rating.choices import LEFT, RIGHT, SKIP, TIE, Choice

ALIKE = "the rate of each of {} is {:.3f}: the interval is what so few say of others (Clopper and Pearson), none of a bootstrap"


@dataclass(frozen=True)
class Preference:
    """`system` over `other`. win_rate: over people, ties counting half; 0.5 for equal systems. alike: all people have it.

    p_value: two-sided, of a sign-flip test over people. wins: choices of the system and of the other. left_rate: fraction of
    the choices without ties that fell on the left image, about 0.5 where the side did not matter. agreement: Krippendorff's
    alpha over the tasks that at least two raters chose on, None without such tasks or differences.
    """

    system: str
    other: str
    win_rate: Interval
    p_value: float
    wins: tuple[int, int]
    ties: int
    skipped: int
    left_rate: float | None
    raters: int
    agreement: float | None
    shared_tasks: int
    alike: bool = False


def preference(choices: Sequence[Choice], system: str, other: str) -> Preference:
    """The preference of all raters. The unit is the person: a person's tasks are averaged, and before that a task's raters.

    Raises DataError if nothing was chosen.
    """
    scores: dict[str, dict[str, list[float]]] = {}  # person -> task -> of each rater
    for choice in choices:
        if (score := choice.score(system)) is not None:
            scores.setdefault(choice.person, {}).setdefault(choice.task, []).append(score)
    if not scores:
        raise DataError("no pair was chosen on", "one choice or more is needed", "Choose first, without --result")
    per_person = [_mean([_mean(raters) for raters in tasks.values()]) for _, tasks in sorted(scores.items())]

    # Counts, and what raters have in common.
    counts = Counter(score for tasks in scores.values() for raters in tasks.values() for score in raters)
    sides = Counter(choice.choice for choice in choices)
    shared = [raters for tasks in scores.values() for raters in tasks.values() if len(raters) > 1]
    one_chosen = sides[LEFT] + sides[RIGHT]
    return Preference(
        system,
        other,
        share_interval(per_person),
        paired_difference(per_person, [1 - rate for rate in per_person]).p_value,
        (counts[1.0], counts[0.0]),
        sides[TIE],
        sides[SKIP],
        sides[LEFT] / one_chosen if one_chosen else None,
        len({choice.rater for choice in choices if choice.choice != SKIP}),
        krippendorff_alpha(shared),
        len(shared),
        len(per_person) > 1 and len(set(per_person)) == 1,
    )


def krippendorff_alpha(units: Iterable[Sequence[Hashable]]) -> float | None:
    """Agreement on nominal values: 1 for complete, 0 for that of chance. units: the values that raters gave to each unit.

    Units with fewer than two values say nothing. None if there are no others, or all values are the same.
    Source: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C.
    """
    coincidences: Counter[tuple[Hashable, Hashable]] = Counter()
    for values in units:
        for pair in permutations(values, 2):
            coincidences[pair] += 1 / (len(values) - 1)  # type: ignore[assignment]  # of a Counter, fractions are allowed
    totals: Counter[Hashable] = Counter()
    for (first, _), count in coincidences.items():
        totals[first] += count
    size = sum(totals.values())
    observed = sum(count for (first, second), count in coincidences.items() if first != second)
    expected = sum(totals[first] * totals[second] for first, second in permutations(totals, 2))
    return 1 - (size - 1) * observed / expected if expected else None


def format_preference(result: Preference) -> str:
    """The preference in lines for people."""
    rate = result.win_rate
    interval = "" if rate.low is None else f" [{rate.low:.3f}, {rate.high:.3f}]"
    people = pluralize(rate.n, "person")
    first = f"{result.system} over {result.other}: win rate {rate.value:.3f}{interval}, p {result.p_value:.2g}, over {people}"
    wins = f"{result.system} {result.wins[0]:,}, {result.other} {result.wins[1]:,}"
    lines = [first, f"chosen: {wins}; ties {result.ties:,}, which count half; skipped {result.skipped:,}"]
    if result.alike:
        lines.append(ALIKE.format(people, rate.value))
    if result.left_rate is not None:
        lines.append(f"left image: {result.left_rate:.2f} of the choices without ties")
    if result.raters > 1:
        shared = pluralize(result.shared_tasks, "task")
        alpha = "not known" if result.agreement is None else f"{result.agreement:.2f}"
        lines.append(f"{result.raters:,} raters; Krippendorff's alpha over {shared} that several chose on: {alpha}")
    return "\n".join(lines)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
