"""Likeness by group: the identity similarity of the people with an attribute, of those without, and the gap of the two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tenth.core.errors import DataError
from tenth.core.types import Features, Score
from tenth.core.wording import pluralize
from tenth.evaluation.metrics.bootstrap import independent_difference
from tenth.evaluation.metrics.identity import PersonScores, identity_similarity_per_person, score_over_people

MIN_GROUP_PEOPLE = 5  # of fewer an interval says nothing
GENDER = "male"  # the attribute of the groups that every table has
NO_GROUPS = "the people list says of nobody whether a man or a woman; write it with --attributes (docs/data.md)"

Attributes = Mapping[str, Mapping[str, bool]]  # person -> attribute -> whether the person has it; unknown ones are missing


@dataclass(frozen=True)
class GroupScores:
    """A metric of the people who have an attribute, of those who have it not, and the first minus the second."""

    attribute: str
    having: Score
    lacking: Score
    gap: Score


def men_similarity(
    *, generated: Features, held_out: Features, references: Features | None = None, attributes: Attributes | None = None
) -> Score:
    """`identity_similarity` of those who are known as men. Higher is better. Unavailable, and raises, as `gender_gap`."""
    del references
    return of_men(identity_similarity_per_person(generated, held_out), attributes)


def women_similarity(
    *, generated: Features, held_out: Features, references: Features | None = None, attributes: Attributes | None = None
) -> Score:
    """`identity_similarity` of those who are known as women. Higher is better. Unavailable, and raises, as `gender_gap`."""
    del references
    return of_women(identity_similarity_per_person(generated, held_out), attributes)


def gender_gap(
    *, generated: Features, held_out: Features, references: Features | None = None, attributes: Attributes | None = None
) -> Score:
    """How far the identity similarities of men and women are apart, over people. Lower is better; 0 where they are alike.

    The size of `GroupScores.gap` of the attribute `male`. Unavailable without attributes. Source: Grother et al. 2019, NISTIR
    8280, demographic differentials. Raises DataError for fewer than five known people of either, or as `identity_similarity`.
    """
    del references
    return gap_size(identity_similarity_per_person(generated, held_out), attributes)


def of_men(values: PersonScores, attributes: Attributes | None) -> Score:
    """`men_similarity` of per-person values."""
    found = _by_gender(values, attributes)
    return found.having if isinstance(found, GroupScores) else found


def of_women(values: PersonScores, attributes: Attributes | None) -> Score:
    """`women_similarity` of per-person values."""
    found = _by_gender(values, attributes)
    return found.lacking if isinstance(found, GroupScores) else found


def gap_size(values: PersonScores, attributes: Attributes | None) -> Score:
    """`gender_gap` of per-person values. n: the people whose gender is known."""
    found = _by_gender(values, attributes)
    if not isinstance(found, GroupScores):
        return found
    gap = found.gap
    assert gap.value is not None
    assert gap.low is not None
    assert gap.high is not None
    apart = gap.low > 0 or gap.high < 0
    ends = sorted((abs(gap.low), abs(gap.high)))
    return Score(abs(gap.value), ends[0] if apart else 0.0, ends[1], gap.n)


GENDER_METRICS = {"men-similarity": of_men, "women-similarity": of_women, "gender-gap": gap_size}


def _by_gender(values: PersonScores, attributes: Attributes | None) -> GroupScores | Score:
    """Men and women, or a score that says why there are none."""
    if not any(GENDER in (attributes or {}).get(person, {}) for person in values):
        return Score(None, unavailable=NO_GROUPS)
    if not np.isfinite(list(values.values())).all():
        return Score(None, unavailable="there is no other person to measure an impostor's similarity on")
    return group_scores(values, attributes or {}, GENDER)


def group_scores(values: PersonScores, attributes: Attributes, attribute: str) -> GroupScores:
    """Of one attribute, people of whom it is unknown left out. Raises DataError for fewer than five people in a group.

    values: finite, by person, of a metric's mean over that person's images.
    """
    known = {person: attributes.get(person, {}).get(attribute) for person in values}
    groups = {has: {person: values[person] for person in values if known[person] is has} for has in (True, False)}
    for has, members in groups.items():
        if len(members) < MIN_GROUP_PEOPLE:
            found = f"{pluralize(len(members), 'person')} known as {'' if has else 'not '}{attribute}"
            raise DataError(found, f"a group needs {MIN_GROUP_PEOPLE}", "Add people, or leave the groups out")
    having, lacking = (score_over_people(groups[has]) for has in (True, False))
    gap = independent_difference(*(list(members.values()) for members in groups.values()))
    return GroupScores(attribute, having, lacking, Score(**vars(gap)))
