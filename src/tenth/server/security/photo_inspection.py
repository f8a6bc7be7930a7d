"""What the photo child runs: paths of photos in, verdicts out, a line of JSON each; limited in memory.

`python -m tenth.server.security.photo_inspection BYTES`. It ends when its input does. Before the verdicts there is a line
`null` for each photo that was opened.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from tenth.core.errors import PhotoError
from tenth.core.files.writing import PRIVATE_FILE_MODE, write_bytes
from tenth.data.faces.descriptors import face_descriptor
from tenth.data.photo import open_photo
from tenth.data.photo_folder import PhotoVerdict, inspect_entries
from tenth.server.security.photo_child import THUMBNAIL_SUFFIX, limit_resources

THUMBNAIL_PIXELS = 256
NICENESS = 5  # the server answers first


def main(max_bytes: int) -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    os.nice(NICENESS)
    limit_resources(max_bytes)
    for line in sys.stdin:
        names = {Path(path): name for path, name in json.loads(line)}
        verdicts = inspect(names, lambda: print("null", file=answers, flush=True))
        print(json.dumps(verdicts), file=answers, flush=True)


def inspect(names: dict[Path, str], on_opened: Callable[[], None]) -> dict[str, dict[str, Any]]:
    """A verdict on each photo by its path, as `PhotoChild.inspect` gives it; a thumbnail is written beside each photo.

    on_opened: called after each photo. No descriptor is kept: the photos may be anybody's, and nobody may ever use them.
    """
    sizes: list[tuple[int | None, int | None]] = []
    for path in names:
        size: tuple[int | None, int | None] = (None, None)
        with suppress(PhotoError):
            size = _write_thumbnail(path)
        sizes.append(size)
        on_opened()
    verdicts = inspect_entries(names, face_descriptor)
    rows = zip(names.items(), verdicts, sizes, strict=True)
    return {str(path): _row(path, verdict, name, size) for (path, name), verdict, size in rows}


def _row(path: Path, verdict: PhotoVerdict, name: str, size: tuple[int | None, int | None]) -> dict[str, Any]:
    reason = verdict.reason.replace(path.name, name)
    if verdict.accepted:
        reason = " ".join(verdict.warnings)
    row = {"accepted": verdict.accepted, "code": verdict.code, "reason": reason, "face": verdict.face}
    return row | {"width": size[0], "height": size[1]}


def _write_thumbnail(path: Path) -> tuple[int, int]:
    """Write the photo upright, at most THUMBNAIL_PIXELS a side, without its metadata. Returns width and height of the photo."""
    photo = open_photo(path)
    height, width = photo.pixels.shape[:2]
    image = Image.fromarray(photo.pixels)
    image.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    content = io.BytesIO()
    image.save(content, "PNG")
    write_bytes(path.with_name(f"{path.name}{THUMBNAIL_SUFFIX}"), content.getvalue(), PRIVATE_FILE_MODE)
    return width, height


if __name__ == "__main__":
    main(int(sys.argv[1]))
