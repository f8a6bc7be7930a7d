"""A benchmark of drawn people, and a system that knows nothing of tenth: Pillow, JSON, and what tasks.jsonl says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageEnhance

from tenth.data.faces.crops import PhotoDataset
from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.experiments.benchmark.export import PROMPT_SETS
from tenth.experiments.recipe import ExperimentRecipe
from tenth.sampling.config import SamplingConfig
from toy_people import NAMES, PHOTOS, digest

Chooser = Callable[[dict[str, Any]], str]  # a task, as JSON has it -> the photo to show, relative to the tasks


def toy_recipe(folder: Path) -> ExperimentRecipe:
    """Three people with six photos each: one or three references, two portraits, an image for each prompt of the attributes."""
    rows = [
        ManifestEntry(f"{name}/{name}_{photo:04}.jpg", name, "validation", 1, "a photo", ("a photo",), digest(person, photo))
        for person, name in enumerate(NAMES)
        for photo in range(PHOTOS)
    ]
    write_manifest(folder / "people.jsonl", rows)
    return ExperimentRecipe(
        data=PhotoDataset(folder / "people.jsonl", folder),
        split="validation",
        images=2,
        prompt_sets=PROMPT_SETS,
        references=3,
        photo_counts=(1, 3),
        sampling=SamplingConfig(steps=1),
    )


def last_reference(task: dict[str, Any]) -> str:
    """Of the photos given, the last."""
    return str(task["references"][-1])


def next_person(task: dict[str, Any]) -> str:
    """A photo of somebody else."""
    other = (int(task["person"]) + 1) % len(NAMES)
    return str(task["references"][-1]).replace(f"/{task['person']}/", f"/{other:03}/")


def fill(tasks: Path, folder: Path, choose: Chooser = last_reference, shade: float = 0.0) -> Path:
    """Make the image of every task, as any system would. shade: how much darker than the photo, as a fraction."""
    for line in (tasks / "tasks.jsonl").read_text(encoding="utf-8").splitlines():
        task = json.loads(line)
        with Image.open(tasks / choose(task)) as photo:
            image = ImageEnhance.Brightness(photo.convert("RGB")).enhance(1 - shade - 0.01 * (task["seed"] % 7))
        path = folder / task["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return folder
