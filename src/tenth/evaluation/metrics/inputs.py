"""What a metric is, and validation of the two sides that it compares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from tenth.core.errors import DataError
from tenth.core.types import FeatureArray, Features, Score
from tenth.core.wording import pluralize


class Metric(Protocol):
    """Features of images and of held-out photos -> a score with its interval."""

    def __call__(self, *, generated: Features, held_out: Features, references: Features | None = None) -> Score: ...


def validated_rows(features: Features, name: str, min_images: int = 2) -> FeatureArray:
    """The features of one side, (N, D) float64, N >= min_images, all finite. name: what a message calls it.

    Raises DataError if they are not.
    """
    rows = np.asarray(features.vectors, np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise DataError(f"{name} features of shape {rows.shape}", "one row (D,) per image is needed", "Embed the images again")
    require_images(len(rows), int((~np.isfinite(rows)).any(1).sum()), name, min_images)
    return rows


def require_images(count: int, broken: int, name: str, min_images: int = 2) -> None:
    """Raises DataError for fewer images than `min_images`, or if rows of some of them are broken: not finite."""
    if count < min_images:
        found = pluralize(count, f"{name} image")
        raise DataError(found, f"at least {min_images} are needed", "Add images, or leave this metric out")
    if broken:
        found, action = f"{broken} of {count} {name} rows are not finite", "Embed the images again, or leave those out"
        raise DataError(found, "every image needs a whole row", action)


def validated_pair(generated: Features, held_out: Features, min_images: int = 2) -> tuple[FeatureArray, FeatureArray]:
    """The features of both sides, (N, D) and (M, D), as `validated_rows` gives them. Raises DataError if the widths differ."""
    a, b = validated_rows(generated, "generated", min_images), validated_rows(held_out, "held-out", min_images)
    if a.shape[1] != b.shape[1]:
        found = f"generated rows of width {a.shape[1]} and held-out rows of width {b.shape[1]}"
        raise DataError(found, "both sides need the same extractor", "Embed both again with one extractor")
    return a, b


def score_or_unavailable(metric: Metric, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """The metric's score; unavailable, with the reason, where there are too few images or faces for it."""
    return available(lambda: metric(generated=generated, held_out=held_out, references=references))


def available(measure: Callable[[], Score]) -> Score:
    """The score that it gives; unavailable, with the reason, where it raises DataError."""
    try:
        return measure()
    except DataError as problem:
        return Score(None, unavailable=str(problem))
