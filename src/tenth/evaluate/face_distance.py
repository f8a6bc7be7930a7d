"""Are the faces spread as in the photos: the Fréchet distance, in the space of a face recogniser. Never called FID."""

from __future__ import annotations

import numpy as np

from tenth.evaluate.fid import frechet_distance
from tenth.evaluate.sides import sides
from tenth.types import Features, Score


def face_distance(*, generated: Features, held_out: Features, references: Features | None = None) -> Score:
    """Squared Fréchet distance between two Gaussians fitted to a face recogniser's rows. Lower is better.

    generated, held_out: (N, D) and (M, D), two with a face on each side; images without are left out here and counted in
    `detection`. Compare only at equal counts and the same held-out photos: it depends on N, and more on who is in them than on
    a method. No interval; n counts generated images with a face. Anchor: 0 when generated is held_out.
    Source: Heusel et al. 2017, arXiv:1706.08500, eq. 6, on other features. Raises DataError if a side has fewer faces than two.
    """
    del references
    a, b = sides(with_faces(generated), with_faces(held_out))
    return Score("face-distance", frechet_distance(a, b), n=len(a), better="lower")


def with_faces(features: Features) -> Features:
    """Only the images in which a face was found: those whose rows are not NaN."""
    found = np.flatnonzero(~np.isnan(features.rows).any(1))
    prompts = tuple(features.prompts[place] for place in found) if features.prompts else ()
    return Features(features.rows[found], tuple(features.people[place] for place in found), prompts)
