"""A metric of one row of a table: what cannot be measured says why, and the other rows are not lost."""

from __future__ import annotations

from tenth.errors import DataError
from tenth.types import Features, Metric, Score


def measured(
    name: str, better: str, metric: Metric, generated: Features, held_out: Features, references: Features | None = None
) -> Score:
    """The metric's score; unavailable, with the reason, where there are too few images or faces for it."""
    try:
        return metric(generated=generated, held_out=held_out, references=references)
    except DataError as problem:
        return Score(name, None, better=better, unavailable=str(problem))
