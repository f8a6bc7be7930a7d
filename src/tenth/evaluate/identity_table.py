"""Several methods side by side on identity: one row each, with intervals over people and paired differences."""

from __future__ import annotations

import math
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


@dataclass(frozen=True)
class IdentityRow:
    """One method. above_stranger: similarity - stranger. differences: similarity - that of each method they are taken to.

    lost: similarity of the same method without wrong photos - similarity. All are paired by person; None where a score is
    unavailable, for the difference to itself, and for what has no row without wrong photos.
    """

    method: str
    similarity: Score
    stranger: Score
    above_stranger: Difference | None
    differences: Mapping[str, Difference | None]
    lost: Difference | None
    detection: Score
    copy: Score
    people: int
    images: int


def identity_table(
    rows: Mapping[str, Features],
    held_out: Features,
    references: Features | None = None,
    *,
    against: Sequence[str] = (),
    without: Mapping[str, Features] | None = None,
) -> list[IdentityRow]:
    """A row for each method, in the order given. against: the methods that differences are taken to; the first if none.

    rows: method -> (N, D) features of its images. without: the same of images made without wrong photos, for what is lost.
    Every method must have images of the same people.
    Raises DataError if they differ, if one of `against` is no method, or as `identity` and `copy_index` do.
    """
    if not rows:
        raise DataError("no method's images", "at least one is needed", "Generate images first")
    baselines = tuple(against) or tuple(rows)[:1]
    for name in baselines:
        if name not in rows:
            raise DataError(f"{name!r} has no images here", f"choose one of: {', '.join(rows)}", "Correct `against`")
    people = set(rows[baselines[0]].people)
    for method, features in (*rows.items(), *(without or {}).items()):
        _check_people(method, features, baselines[0], people)
    values = {method: similarity_per_person(features, held_out) for method, features in rows.items()}
    before = {method: similarity_per_person(features, held_out) for method, features in (without or {}).items()}
    table = []
    for method, features in rows.items():
        own = values[method]
        table.append(
            IdentityRow(
                method=method,
                similarity=identity(generated=features, held_out=held_out),
                stranger=stranger(generated=features, held_out=held_out),
                above_stranger=_paired(own, stranger_per_person(features, held_out)),
                differences={name: None if name == method else _paired(own, values[name]) for name in baselines},
                lost=_paired(before[method], own) if method in before else None,
                detection=detection(generated=features, held_out=held_out),
                copy=copy_index(generated=features, held_out=held_out, references=references),
                people=len(own),
                images=len(features.people),
            )
        )
    return table


def identity_markdown(table: Sequence[IdentityRow]) -> str:
    """The table as Markdown, intervals in brackets; a line below says what the columns are."""
    baselines = list(table[0].differences) if table else []
    losing = any(row.lost is not None for row in table)
    header = ["method", "similarity", "stranger", "above stranger"]
    header += [text for name in baselines for text in (f"minus {name}", "p")] + ["lost", "p"] * losing
    header += ["face found", "copy index", "people", "images"]
    note = "Brackets: 95 % over people. Minus: similarity minus that of the method named, same people; p: sign flips."
    if losing:
        note += " Lost: similarity of the same method and people without wrong photos, minus this one."
    return _markdown(header, [_cells(row, losing) for row in table]) + f"\n{note}\n"


def overview_markdown(tables: Mapping[str, Sequence[IdentityRow]]) -> str:
    """Similarity alone, conditions side by side. tables: by the condition's name, all of the same methods."""
    methods = [row.method for row in next(iter(tables.values()))]
    cells = [[_number(table[place].similarity) for table in tables.values()] for place in range(len(methods))]
    return _markdown(["similarity", *tables], [[name, *row] for name, row in zip(methods, cells, strict=True)])


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _paired(a: PerPerson, b: PerPerson) -> Difference | None:
    """a - b over people; None if one of them is not known for a person."""
    known = not any(map(math.isnan, (*a.values(), *b.values())))
    return paired(list(a.values()), list(b.values())) if known else None


def _check_people(method: str, features: Features, baseline: str, expected: set[str]) -> None:
    odd = sorted(expected ^ set(features.people))
    if odd:
        raise DataError(
            f"{method} and {baseline} have images of different people ({', '.join(odd[:5])})",
            "a paired difference needs the same people",
            "Generate the missing images, or leave these people out",
        )


def _cells(row: IdentityRow, losing: bool) -> list[str]:
    pairs = [*row.differences.values(), *[row.lost] * losing]
    return [
        row.method,
        *(_number(part) for part in (row.similarity, row.stranger, row.above_stranger)),
        *(text for pair in pairs for text in (_number(pair), "" if pair is None else f"{pair.p_value:.4f}")),
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
