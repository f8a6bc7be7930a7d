"""Images for the page: of each person the photos given, then a row for each method with the same seeds."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from tenth.core.errors import DataError
from tenth.core.files.reading import open_regular
from tenth.core.run_record import method_folder_names
from tenth.reporting.results_reader import Results

PEOPLE, SEEDS, PHOTOS = 12, 6, 12  # shown at most, so that the page stays some megabytes
OPEN = 2  # people whose sheet is open from the start
PICTURE_BYTES = 1 << 26
SIDE = 160  # pixels of a picture in the page, at most
QUALITY = 82  # of WebP, where the eye sees no difference at this size
NOBODY = "no identity"


@dataclass(frozen=True)
class Sheet:
    """One person's pictures. rows: by method, by seed."""

    number: str
    references: Sequence[Path]
    rows: Mapping[str, Mapping[int, Path]]

    @property
    def seeds(self) -> list[int]:
        """Columns: the first seeds of all rows."""
        return sorted({seed for paths in self.rows.values() for seed in paths})[:SEEDS]


def sheets(results: Results, folder: Path) -> list[Sheet]:
    """What lies beside the record under the main condition; people without an image are left out."""
    photos, images = results.main[0], folder / "images"
    declared = [str(name) for name in results.settings.get("methods") or ()]
    names = method_folder_names([*declared, *(name for name in results.methods if name not in declared)])
    nobody = _by_seed(images / "none")
    found: list[Sheet] = []
    for number in filter(_is_plain, results.people):
        paths = {name: _by_seed(images / str(photos) / names[name] / number) for name in results.methods}
        if any(paths.values()) and len(found) < PEOPLE:
            rows = {**paths, **({NOBODY: nobody} if nobody else {})}
            found.append(Sheet(number, list(_by_seed(folder / "references" / number).values())[:PHOTOS], rows))
    return found


def _is_plain(number: str) -> bool:
    """Whether a person's number is one: it becomes part of a path."""
    return re.fullmatch(r"\w+", number) is not None


def _by_seed(folder: Path) -> dict[int, Path]:
    return {
        int(path.stem): path
        for path in sorted(folder.glob("*.png"), key=lambda path: len(path.stem))
        if re.fullmatch("[0-9]{1,20}", path.stem)
    }


@dataclass(frozen=True)
class Embedded:
    """An image within the page. source: a data URI. width, height: pixels."""

    source: str
    width: int
    height: int


def embedded(path: Path) -> Embedded:
    """The image itself, reduced to what the page shows. Raises DataError if it is damaged."""
    try:
        with open_regular(path, PICTURE_BYTES) as file, Image.open(file, formats=["PNG"]) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        raise DataError(
            f"{path} is no whole PNG ({problem})",
            "whole images are needed, or none",
            "Remove it and run the experiment again, or give run.json in a folder of its own",
        ) from None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    packed = BytesIO()
    image.save(packed, "WEBP", quality=QUALITY, method=4)
    return Embedded(f"data:image/webp;base64,{b64encode(packed.getvalue()).decode()}", image.width, image.height)
