"""Identity diversity: how different the images of one person are from each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tenth.core.types import Features, Score
from tenth.evaluation.metrics.identity import PersonScores, by_person, score_over_people

NOBODY_TWICE = "nobody has two images with a face"


def identity_diversity(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean of 1 - cosine over all pairs of generated images of one person, over people. Higher is more different.

    generated: (N, D), rows of any length; images without a face are left out. Noise is different too: read it beside as many
    real photos. Source: Ruiz et al. 2022, arXiv:2208.12242, DIV, with a recognizer's cosine for LPIPS. Unavailable if nobody
    has two images with a face. Raises DataError as `by_person` does.
    """
    del held_out, references
    score = score_over_people(diversity_per_person(generated))
    return replace(score, unavailable=NOBODY_TWICE) if score.value is None else score


def diversity_per_person(generated: Features) -> PersonScores:
    """Person -> mean of 1 - cosine over pairs of images with a face; people with fewer than two of them are left out."""
    means = {}
    for person, rows in by_person(generated).items():
        with_face = rows[~np.isnan(rows[:, 0])]
        n = len(with_face)
        if n > 1:  # |sum of unit rows|^2 = n + the cosines of all ordered pairs
            means[person] = 1 - float(np.square(with_face.sum(0)).sum() - n) / (n * (n - 1))
    return means
