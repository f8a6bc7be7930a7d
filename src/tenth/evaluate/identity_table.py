"""Several methods side by side on identity: one row each, with intervals over people and paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenth.errors import DataError
from tenth.evaluate.bootstrap import Difference, paired
from tenth.evaluate.identity import (
    PerPerson,
    copy_index,
    detection,
    identity,
    similarity_per_person,
    stranger,
    stranger_per_person,
)
from tenth.types import Features, Score

HEADER = (
    "method",
    "similarity",
    "stranger",
    "above stranger",
    "difference",
    "p",
    "face found",
    "copy index",
    "people",
    "images",
)


@dataclass(frozen=True)
class IdentityRow:
    """One method. above_stranger: similarity - stranger. difference: similarity - that of the method `against`.

    Both are paired by person; None where a score is unavailable, and the difference for `against` itself.
    """

    method: str
    similarity: Score
    stranger: Score
    above_stranger: Difference | None
    difference: Difference | None
    against: str
    detection: Score
    copy: Score
    people: int
    images: int


def identity_table(
    rows: Mapping[str, Features], held_out: Features, references: Features | None = None, *, against: str | None = None
) -> list[IdentityRow]:
    """A row for each method, in the order given. against: the method that differences are taken to, the first if not said.

    rows: method -> (N, D) features of its images. Every method must have images of the same people.
    Raises DataError if they differ, if `against` is no method, or as `identity` and `copy_index` do.
    """
    if not rows:
        raise DataError("no method's images", "at least one is needed", "Generate images first")
    baseline = next(iter(rows)) if against is None else against
    if baseline not in rows:
        raise DataError(f"{baseline!r} has no images here", f"choose one of: {', '.join(rows)}", "Correct `against`")
    _check_people(rows, baseline)
    values = {method: similarity_per_person(features, held_out) for method, features in rows.items()}
    return [_row(method, features, held_out, references, values, baseline) for method, features in rows.items()]


def identity_markdown(table: Sequence[IdentityRow]) -> str:
    """The table as Markdown, intervals in brackets; a line below says what the columns are."""
    lines = ["| " + " | ".join(HEADER) + " |", "| --- |" + " ---: |" * (len(HEADER) - 1)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in table]
    against = table[0].against if table else ""
    lines += ["", f"Brackets: 95 % over people. Difference: similarity minus that of {against}, same people; p: sign flips."]
    return "\n".join(lines) + "\n"


def _row(
    method: str,
    features: Features,
    held_out: Features,
    references: Features | None,
    values: Mapping[str, PerPerson],
    against: str,
) -> IdentityRow:
    similarity = identity(generated=features, held_out=held_out)
    floor = stranger(generated=features, held_out=held_out)
    return IdentityRow(
        method=method,
        similarity=similarity,
        stranger=floor,
        above_stranger=_paired(values[method], stranger_per_person(features, held_out), floor, similarity),
        difference=None if method == against else _paired(values[method], values[against], similarity),
        against=against,
        detection=detection(generated=features, held_out=held_out),
        copy=copy_index(generated=features, held_out=held_out, references=references),
        people=len(values[method]),
        images=len(features.people),
    )


def _paired(a: PerPerson, b: PerPerson, *scores: Score) -> Difference | None:
    available = all(score.value is not None for score in scores)
    return paired(list(a.values()), list(b.values())) if available else None


def _check_people(rows: Mapping[str, Features], baseline: str) -> None:
    expected = set(rows[baseline].people)
    for method, features in rows.items():
        odd = sorted(expected ^ set(features.people))
        if odd:
            raise DataError(
                f"{method} and {baseline} have images of different people ({', '.join(odd[:5])})",
                "a paired difference needs the same people",
                "Generate the missing images, or leave these people out",
            )


def _cells(row: IdentityRow) -> list[str]:
    return [
        row.method,
        *(_number(part) for part in (row.similarity, row.stranger, row.above_stranger, row.difference)),
        "" if row.difference is None else f"{row.difference.p_value:.4f}",
        *(_number(part) for part in (row.detection, row.copy)),
        str(row.people),
        str(row.images),
    ]


def _number(part: Score | Difference | None) -> str:
    if part is None or part.value is None:
        return "-"
    if part.low is None or part.high is None:
        return f"{part.value:.3f}"
    return f"{part.value:.3f} [{part.low:.3f}, {part.high:.3f}]"
