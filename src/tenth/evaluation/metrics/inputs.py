"""The sides of a comparison as plain rows. Image features have no missing rows: what cannot be compared is an error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tenth.core.errors import DataError
from tenth.core.types import Features, Metric, Score

Rows = npt.NDArray[np.float64]


def side(features: Features, name: str, least: int = 2) -> Rows:
    """The rows of one side, (N, D) float64, N >= least, all finite. name: how a message calls it.

    Raises DataError if they are not.
    """
    rows = np.asarray(features.rows, np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DataError(f"{name} features of shape {rows.shape}", "one row (D,) per image is needed", "Embed the images again")
    if len(rows) < least:
        found = f"{len(rows)} {name} {'image' if len(rows) == 1 else 'images'}"
        raise DataError(found, f"at least {least} are needed", "Add images, or leave this metric out")
    unfit = int((~np.isfinite(rows)).any(1).sum())
    if unfit:
        raise DataError(
            f"{unfit} of {len(rows)} {name} rows are not finite",
            "every image needs a whole row",
            "Embed the images again, or leave those out on purpose and say so",
        )
    return rows


def sides(generated: Features, held_out: Features, least: int = 2) -> tuple[Rows, Rows]:
    """The rows of both sides, (N, D) and (M, D), each as `side` gives them. Raises DataError if their widths differ too."""
    a, b = side(generated, "generated", least), side(held_out, "held-out", least)
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"generated rows of width {a.shape[1]} and held-out rows of width {b.shape[1]}",
            "both sides need the same extractor",
            "Embed both again with one extractor",
        )
    return a, b


def measured(
    name: str, better: str, metric: Metric, generated: Features, held_out: Features, references: Features | None = None
) -> Score:
    """The metric's score; unavailable, with the reason, where there are too few images or faces for it."""
    try:
        return metric(generated=generated, held_out=held_out, references=references)
    except DataError as problem:
        return Score(name, None, better=better, unavailable=str(problem))
