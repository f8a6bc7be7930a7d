"""What `tenth identity` says of each photo: how much it counts, and by how much the identity would move without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenth.core.types import MethodResult, Person


@dataclass(frozen=True)
class PhotoEffects:
    """sentences: a line for each photo. table: the same as JSON, by file; {} where a method has no such numbers."""

    sentences: list[str]
    table: dict[str, Any]


def photo_effects(person: Person, result: MethodResult) -> PhotoEffects:
    """What a method's result says of the person's photos. Embeddings are cached: only the pooling is done again."""
    from tenth.models.aggregators.leave_one_out import UNIT

    files = [photo.file for photo in person.photos]
    shares = {} if result.photo_weights is None else dict(zip(files, map(float, result.photo_weights), strict=True))
    moves = (
        [] if result.leave_one_out is None else [None if math.isnan(each) else each for each in result.leave_one_out().tolist()]
    )
    distances = dict(zip(files, moves, strict=bool(moves)))
    sentences = []
    for file in files:
        parts = [f"counts {shares[file]:.1%}"] if file in shares else []
        if file in distances:
            move = distances[file]
            parts.append("without it nothing is left" if move is None else f"without it the identity moves by {move:.3f}")
        sentences += [f"{file}: {'; '.join(parts)}"] if parts else []
    sentences += [f"(moves are in {UNIT})"] if distances else []
    return PhotoEffects(sentences, {"weights": shares, "leave_one_out": distances, "leave_one_out_unit": UNIT})
