"""Contact sheets for the page: of each person the photos given, then a row for each method with the same seeds."""

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
from tenth.core.wording import pluralize
from tenth.reporting.html.elements import Markup, element
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


def gallery(results: Results, folder: Path) -> Markup | None:
    """A sheet for each of the first people, or None if the folder has no images. Raises DataError at a damaged image."""
    found = sheets(results, folder)
    if not found:
        return None
    every = len(results.people)
    about = f"Of {every} people the first {len(found)} with images, at most {PEOPLE}" if every > len(found) else "All people"
    text = f"{about}, and at most {SEEDS} seeds of each method; the same seed in each column. Nobody was chosen by hand."
    return element("div", element("p", text), [_sheet(sheet, number < OPEN) for number, sheet in enumerate(found)])


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


def _sheet(sheet: Sheet, is_open: bool) -> Markup:
    seeds = sorted({seed for paths in sheet.rows.values() for seed in paths})[:SEEDS]
    head = element("tr", element("td"), [element("th", f"seed {seed}", scope="col") for seed in seeds])
    rows = [
        element("tr", element("th", name, scope="row"), [_image(paths.get(seed), name, sheet.number, seed) for seed in seeds])
        for name, paths in sheet.rows.items()
    ]
    photos = [_picture(path, f"person {sheet.number}, photo {place + 1} given") for place, path in enumerate(sheet.references)]
    images = element("table", element("thead", head), element("tbody", rows), class_="images")
    return element(
        "details",
        element("summary", f"Person {sheet.number}"),
        element("p", f"{pluralize(len(photos), 'photo')} given", class_="note") if photos else None,
        element("div", photos, class_="given") if photos else None,
        element("div", images, class_="scroll", tabindex="0", role="region", aria_label=f"Images of person {sheet.number}"),
        open=is_open,
    )


def _image(path: Path | None, name: str, number: str, seed: int) -> Markup:
    if path is None:
        return element("td", "no image", class_="none")
    return element("td", _picture(path, f"{name}, person {number}, seed {seed}"))


def _picture(path: Path, text: str) -> Markup:
    """The image itself within the page, reduced to what the page shows."""
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
    source = f"data:image/webp;base64,{b64encode(packed.getvalue()).decode()}"
    return element("img", src=source, alt=text, width=image.width, height=image.height, loading="lazy")
