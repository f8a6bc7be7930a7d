"""Face quality: how good a face recognizer's input the generated faces are. Reported; nothing is chosen by it."""

from __future__ import annotations

import numpy as np

from tenth.core.errors import DataError
from tenth.core.types import Features, Score
from tenth.evaluation.metrics.identity import score_over_people


def face_quality(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Mean quality of the generated faces, over people. Higher is better; read it beside that of real photos.

    generated: (N, 1), NaN where no face is found: such images are left out, as are people with no other. Source: Babnik, Peer
    and Struc 2024, IEEE T-BIOM, document 10468647. Raises DataError for rows of another width, or as many as no people's tags.
    """
    del held_out, references
    rows = generated.vectors
    if rows.ndim != 2 or rows.shape[1] != 1 or len(rows) != len(generated.people):
        found = f"face quality of shape {rows.shape} for {len(generated.people)} people's tags"
        raise DataError(found, "one number per image is needed", "Measure the images again")
    people, values = np.array(generated.people, dtype=object), rows[:, 0]
    with_face = np.isfinite(values)
    return score_over_people(
        {person: float(values[with_face & (people == person)].mean()) for person in sorted(set(people[with_face]))}
    )
