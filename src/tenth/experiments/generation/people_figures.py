"""What run.json says of images of several people: how like each of them is in the part of the image that is theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tenth.core.errors import ModelError
from tenth.core.types import Face, Pixels
from tenth.data.faces.detection import find_faces
from tenth.evaluation.candidates import ReferenceFaces, embed_faces
from tenth.evaluation.image_set import load_image
from tenth.sampling.generate import Request
from tenth.sampling.people import PlacedPerson, Region

GRID = 64  # cells a side, in which a face's center is looked up


@dataclass(frozen=True)
class RegionFigures:
    """What a person's region of an image shows, by the package's own face recognizer.

    identity: mean cosine of its largest face to the faces in the person's photos. of_others: those to each of the other
    people's, in their order. None where there is no face in the region, or where photos are not at hand.
    """

    identity: float | None
    of_others: tuple[float | None, ...]


def measured_people(requests: Sequence[Request], paths: Sequence[Path]) -> dict[str, Any]:
    """The figures of each image by its name, a row for each person; {} of images of one person, or without a recognizer."""
    try:
        rows = {
            path.name: [asdict(figures) for figures in measure_regions([load_image(path)], request.people)[0]]
            for request, path in zip(requests, paths, strict=True)
            if request.people
        }
    except ModelError:  # the recognizer is not installed
        return {}
    return {"people": rows} if rows else {}


def measure_regions(images: Sequence[Pixels], people: Sequence[PlacedPerson]) -> list[list[RegionFigures]]:
    """The figures of each person in each image (H, W, 3). Raises ModelError if the recognizer's weights are not installed."""
    photos = [[photo for photo in person.photos if photo.face is not None] for person in people]
    references = [ReferenceFaces.from_photos(some) if some else None for some in photos]
    figures = []
    for pixels in images:
        faces = find_faces(pixels)
        row = []
        for number, person in enumerate(people):
            face = next((each for each in faces if _is_inside(each, person.region, pixels)), None)
            cosines = [_cosine(pixels, face, reference) for reference in references]
            row.append(RegionFigures(cosines.pop(number), tuple(cosines)))
        figures.append(row)
    return figures


def _is_inside(face: Face, region: Region, pixels: Pixels) -> bool:
    """Whether a face's center is in the region."""
    left, top, right, bottom = face.box
    height, width = pixels.shape[:2]
    row, column = (int(GRID * share) for share in ((top + bottom) / 2 / height, (left + right) / 2 / width))
    return bool(region.coverage(GRID, GRID)[min(max(row, 0), GRID - 1), min(max(column, 0), GRID - 1)] > 0.5)


def _cosine(pixels: Pixels, face: Face | None, reference: ReferenceFaces | None) -> float | None:
    if face is None or reference is None:
        return None
    return round(float((embed_faces([(pixels, face)]) @ reference.embeddings.T).mean()), 4)
