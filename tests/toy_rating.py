"""Two systems' images of the same tasks, drawn: one paints in blue, the other in green."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from PIL import Image, PngImagePlugin

from tenth.data.faces.crops import PhotoDataset
from tenth.experiments.benchmark.tasks import DataSource, write_benchmark
from tenth.experiments.recipe import ExperimentRecipe

COLORS = ((40, 90, 200), (40, 160, 90))
PHOTO_COLOR = (200, 120, 60)
PEOPLE, SEEDS, COUNTS, SIZE = ("000", "001", "002"), 4, (3, 9), 48


def rated_folders(folder: Path, sizes: tuple[int, int] = (SIZE, SIZE)) -> tuple[tuple[Path, Path], Path]:
    """Folders "one" and "two", with 12 images of nine references and as many of three, and the folder of their tasks.

    sizes: of the images of both, in pixels.
    """
    folders, tasks = (folder / "one", folder / "two"), folder / "tasks"
    data = PhotoDataset(folder / "people.jsonl", folder)
    recipe = ExperimentRecipe(data=data, split="validation", images=SEEDS, photo_counts=COUNTS)
    benchmark = write_benchmark(tasks, recipe, PEOPLE, DataSource(recipe.split, "0" * 64, "0" * 64))
    for person, kind, number in product(PEOPLE, ("references", "held-out"), range(2)):
        photo = tasks / "private" / kind / person / f"{number:02}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIZE, SIZE), PHOTO_COLOR).save(photo)
    for task in benchmark.tasks:
        for system, color, size in zip(folders, COLORS, sizes, strict=True):
            text = PngImagePlugin.PngInfo()
            text.add_text("method", f"secret-{system.name}")
            (system / task.image).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (size, size), color).save(system / task.image, pnginfo=text)
    return folders, tasks
