"""Images for the page: a contact sheet of a few people, and of each person the photos given and a row for each method."""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from tenth.core.files.png_metadata import MAX_PNG_BYTES
from tenth.core.files.reading import read_bytes
from tenth.core.marks.xmp import OUR_XMP, XMP
from tenth.core.run_record import method_folder_names
from tenth.evaluation.image_set import load_image
from tenth.reporting.claims import ranking
from tenth.reporting.results_reader import FLOOR, Results

PEOPLE, SEEDS, PHOTOS = 12, 6, 12  # shown at most, so that the page stays some megabytes
CONTACT_PEOPLE, CONTACT_METHODS = 3, 16  # on the contact sheet with which the page begins
SIDE, SMALL_SIDE = 160, 80  # pixels of an image in the page, and of a photo given on the contact sheet, at most
QUALITY = 82  # of WebP, where the eye sees no difference at this size


@dataclass(frozen=True)
class Sheet:
    """One person's images. rows: by method, by seed."""

    person_id: str
    references: Sequence[Path]
    rows: Mapping[str, Mapping[int, Path]]

    @property
    def seeds(self) -> list[int]:
        """Columns: the first seeds of all rows."""
        return sorted({seed for paths in self.rows.values() for seed in paths})[:SEEDS]


def sheets(results: Results, folder: Path) -> list[Sheet]:
    """What lies beside the record under the main condition; people without an image are left out."""
    images = folder / "images"
    folders = method_folder_names(list(dict.fromkeys([*results.declared, *results.methods])))
    unconditional = _by_seed(images / "none")
    found: list[Sheet] = []
    for person_id in results.people:
        if len(found) < PEOPLE and re.fullmatch(r"\w+", person_id):  # it becomes part of a path
            condition = images / str(results.main[0])
            rows = {name: _by_seed(condition / folders[name] / person_id) for name in results.methods}
            references = list(_by_seed(folder / "references" / person_id).values())[:PHOTOS]
            if any(rows.values()):
                found.append(Sheet(person_id, references, rows | ({FLOOR: unconditional} if unconditional else {})))
    return found


def contact_names(results: Results, found: Sequence[Sheet]) -> list[str]:
    """Columns of the contact sheet: the methods that have images, the highest similarity first, then images of nobody."""
    drawn = {name for sheet in found for name, paths in sheet.rows.items() if paths}
    ranked = ranking(results, results.scored[0])
    ordered = [*ranked, *(name for name in results.methods if name not in ranked)]
    return [name for name in ordered if name in drawn][:CONTACT_METHODS] + [FLOOR] * (FLOOR in drawn)


def mosaic_columns(count: int) -> int:
    """How many photos stand side by side, so that all are about a square."""
    return max(1, math.ceil(math.sqrt(count)))


def _by_seed(folder: Path) -> dict[int, Path]:
    """Images by their number, in its order: 2 comes before 10, however the names are filled up."""
    paths = [path for path in folder.glob("*.png") if re.fullmatch("[0-9]{1,20}", path.stem)]
    return {int(path.stem): path for path in sorted(paths, key=lambda path: (int(path.stem), path.stem))}


def embedded(path: Path, side: int = SIDE) -> tuple[str, int, int]:
    """An image as a data URI, with its width and height in pixels, at most `side` of each. Raises as `load_image`.

    What a model made says so there too, in XMP; what says nothing is a photo.
    """
    image = Image.fromarray(load_image(path))
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    packed = BytesIO()
    xmp = XMP if OUR_XMP.search(read_bytes(path, MAX_PNG_BYTES)) else b""
    image.save(packed, "WEBP", quality=QUALITY, method=4, xmp=xmp)
    return f"data:image/webp;base64,{b64encode(packed.getvalue()).decode()}", image.width, image.height
