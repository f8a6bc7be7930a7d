"""Two systems' images of the same tasks, drawn: one paints in blue, the other in green."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from PIL import Image, PngImagePlugin

COLORS = ((40, 90, 200), (40, 160, 90))
PHOTO_COLOR = (200, 120, 60)
PEOPLE, SEEDS, COUNTS, SIZE = 3, 2, (3, 9), 48


def rated_folders(folder: Path, sizes: tuple[int, int] = (SIZE, SIZE)) -> tuple[tuple[Path, Path], Path]:
    """Folders "one" and "two" with 12 images each, and the folder of their tasks. sizes: of their images, in pixels."""
    folders, tasks = (folder / "one", folder / "two"), folder / "tasks"
    lines = []
    for person, seed, count in product(range(PEOPLE), range(SEEDS), COUNTS):
        image = f"portrait/{count}/{person:03}/{seed}.png"
        for system, color, size in zip(folders, COLORS, sizes, strict=True):
            text = PngImagePlugin.PngInfo()
            text.add_text("method", f"secret-{system.name}")
            (system / image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (size, size), color).save(system / image, pnginfo=text)
        lines.append({"image": image, "person": f"{person:03}", "prompt": "a portrait photo of a person"})
    for person, number in product(range(PEOPLE), range(2)):
        photo = tasks / f"private/held-out/{person:03}/{number:02}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), PHOTO_COLOR).save(photo)
    (tasks / "tasks.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folders, tasks
