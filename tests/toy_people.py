"""Toy people of an experiment: drawn pixels, a recognizer that reads colours, and a generator that returns photos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenth.core.types import Face, Photo, Pixels, Sample
from tenth.data.captions.attributes import COLUMNS
from tenth.data.faces.crops import PhotoDataset
from tenth.data.manifest import ManifestEntry
from tenth.experiments.protocol import face_crop
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request
from tenth.training.schedule import TrainingConfig

NAMES = ("Zebulon_Quux", "Ottoline_Vark", "Philo_Wexcombe")
COLORS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))
FACE = Face((32, 32, 96, 96), np.array([[88.0, 55], [72, 55], [40, 55], [56, 55], [64, 76]]))
PHOTOS = 6  # of each person


def face_pixels(person: int, photo: int) -> Pixels:
    """Blocks around a person's colour: (128, 128, 3)."""
    noise = np.random.default_rng(100 * person + photo).integers(-40, 40, (16, 16, 3))
    return (np.array(COLORS[person]) + noise).astype(np.uint8).repeat(8, 0).repeat(8, 1)


def digest(person: int, photo: int) -> str:
    return f"{person * 100 + photo:064x}"


def open_toy_photo(_: PhotoDataset, row: ManifestEntry) -> Photo:
    return Photo(face_pixels(*divmod(int(row.digest, 16), 100)), row.digest, row.file, FACE)


class ColorRecognizer:
    """A recognizer of the colours in sixteen places, (N, 48)."""

    name, feature_dim, threshold, licence = "colours@0", 48, None, ""

    def __init__(self, *_: Any) -> None: ...

    def __call__(self, pixels: Sequence[Pixels]) -> Any:
        rows = np.stack([image.reshape(4, 32, 4, 32, 3).mean((1, 3)).ravel() - 107.0 for image in pixels])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def generate_held_out_photos(model: Any, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Sample]:
    """In place of `generate`: the person's first held-out photo; for nobody, grey noise."""
    for request in requests:
        pixels, method = np.random.default_rng(request.seed).integers(90, 120, (128, 128, 3), dtype=np.uint8), "none"
        if request.identity is not None:
            method, person = request.identity.method, int(request.identity.photos[0], 16) // 100
            pixels = face_crop(Photo(face_pixels(person, 3), "", face=FACE))
        yield Sample(pixels, request.prompt, request.seed, method, model.name, asdict(sampling), 0.0)


def scores_at(
    folder: Path, recognizer: str = "colours@0", photos: int = 3, num_impostors: int = 0
) -> dict[str, dict[str, Any]]:
    """method -> metric -> the line of run.json."""
    scores: dict[str, dict[str, Any]] = {}
    for line in json.loads((folder / "run.json").read_text())["results"]["scores"]:
        if (line["num_photos"], line["num_impostors"]) == (photos, num_impostors) and line["recognizer"] in (recognizer, ""):
            scores.setdefault(line["method"], {})[line["metric"]] = line
    return scores


def attribute_dataset(count: int) -> tuple[tuple[ManifestEntry, ...], Tensor]:
    """Rows and crops (N, 3, 128, 128) that are dark and light in turn."""
    rows = tuple(ManifestEntry(f"{n}/{n}.jpg", str(n), "train", 1, "a photo", ("a photo",), f"{n:064x}") for n in range(count))
    noise = torch.randint(0, 60, (count, 3, 128, 128), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return rows, noise + 190 * (torch.arange(count) % 2)[:, None, None, None].to(torch.uint8)


def write_attribute_table(path: Path, rows: Sequence[ManifestEntry]) -> None:
    """Of `attribute_dataset`: "outdoor" where the picture is light."""
    lines = [",".join(COLUMNS)]
    for place, row in enumerate(rows):
        values = {"image": row.file, "outdoor": "1" if place % 2 else ""}
        lines.append(",".join(values.get(column, "") for column in COLUMNS))
    path.write_text("\n".join(lines) + "\n")


ATTRIBUTE_SCHEDULE = TrainingConfig(
    total_images=320,
    batch_size=16,
    learning_rate=3e-3,
    warmup_images=16,
    ema_halflife_images=16,
    checkpoint_every_images=320,
    precision="fp32",
)
