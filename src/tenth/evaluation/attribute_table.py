"""What photos show, read by the package's own classifier: the attribute table, where none is at hand."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO

import numpy as np

from tenth.core.cache import Array, ArrayCache
from tenth.core.console import track
from tenth.core.types import Pixels
from tenth.data.captions.attributes import BINARY_ATTRIBUTES, COLUMNS
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.data.faces.crops import CENTRAL_FACE, PhotoDataset
from tenth.data.faces.detection import crop_face
from tenth.data.manifest import ManifestEntry
from tenth.evaluation.extractors.face_attributes import FaceAttributeClassifier

UNKNOWN_BELOW = 1.0  # of a logit, either way: a wrong word in a caption costs more than a missing one
CELLS = {True: "1", False: "0", None: ""}
GENDERS = {True: "M", False: "F", None: ""}


def attribute_table(
    dataset: PhotoDataset, entries: Sequence[ManifestEntry], classifier: FaceAttributeClassifier, cache: ArrayCache
) -> str:
    """A CSV that `read_attributes` reads, a line for each photo in their order.

    Unknown: what the classifier does not read well or is not sure of, and those of a photo without a face.
    """

    def compute(missing: list[int]) -> Iterator[Array]:
        for index in track(missing, "attributes", "photo"):
            photo = dataset.open_with_central_face(entries[index])
            yield np.empty(0) if photo is None or photo.face is None else classifier([crop_face(photo.pixels, photo.face)])[0]

    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = cache.get_or_compute(f"{CENTRAL_FACE}-{classifier.name}", [entry.digest for entry in entries], compute)
    for entry, logits in zip(entries, rows, strict=True):
        known = _known(logits, classifier.reliable)
        writer.writerow([entry.file, GENDERS[known["male"]], *(CELLS[known[flag]] for flag in BINARY_ATTRIBUTES)])
    return text.getvalue()


def count_unknown(table: str) -> int:
    """Photos of a table of which nothing is known: without a face, or not sure in anything."""
    return sum(not any(cells[1:]) for cells in list(csv.reader(StringIO(table)))[1:])


def attributes_of_crops(crops: Sequence[Pixels], classifier: FaceAttributeClassifier) -> dict[str, bool]:
    """What most of a person's face crops show, where the classifier is sure; an even split is unknown, and left out."""
    votes = Counter[str]()
    for logits in classifier(crops):
        for name, has in _known(logits, classifier.reliable).items():
            votes[name] += 0 if has is None else 1 if has else -1
    return {name: count > 0 for name, count in votes.items() if count}


def _known(logits: Array, reliable: Sequence[str]) -> Mapping[str, bool | None]:
    """True, False or None of each attribute. logits: (S,), or none at all."""
    sure = dict(zip(FACE_ATTRIBUTES, logits.tolist(), strict=True)) if len(logits) else {}
    return {
        name: sure[name] > 0 if name in reliable and name in sure and abs(sure[name]) >= UNKNOWN_BELOW else None
        for name in FACE_ATTRIBUTES
    }
