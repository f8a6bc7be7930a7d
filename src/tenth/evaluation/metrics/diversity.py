"""Identity diversity: how different the images of one person are from each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tenth.core.types import FeatureArray, Features, Score
from tenth.evaluation.metrics.identity import PersonScores, by_person, score_over_people


def identity_diversity(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean of 1 - cosine over all pairs of generated images of one person, over people. Higher is more different.

    generated: (N, D), rows of any length. Images without a face count in `detection`, not here, and people with fewer than two
    images with a face are left out. Noise is different too: read it beside `identity`, and against the same number of real
    photos (pass them as generated), which is what a method should reach and not exceed. Anchors: 0 for copies of one image,
    1 for images at right angles. Source: Ruiz et al. 2022, arXiv:2208.12242, DIV, with a recognizer's cosine for LPIPS.
    Unavailable if nobody has two images with a face. Raises DataError as `identity` does for rows that are no embeddings.
    """
    del held_out, references
    score = score_over_people(diversity_per_person(generated))
    return replace(score, unavailable="nobody has two images with a face") if score.value is None else score


def diversity_per_person(generated: Features) -> PersonScores:
    """Person -> mean of 1 - cosine over pairs of images with a face; people with fewer than two of them are left out."""
    with_face = {person: rows[~np.isnan(rows[:, 0])] for person, rows in by_person(generated).items()}
    return {person: 1 - _mean_pairwise_cosine(rows) for person, rows in with_face.items() if len(rows) > 1}


def _mean_pairwise_cosine(rows: FeatureArray) -> float:
    n = len(rows)
    return float(np.square(rows.sum(0)).sum() - n) / (n * (n - 1))  # |sum of unit rows|^2 = n + all ordered pairs
