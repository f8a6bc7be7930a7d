"""What a training step of the pocket model reads, made up: six photos of three people; and people who have example photos."""

from __future__ import annotations

from pathlib import Path

import torch

from tenth.core.file_reading import file_digest
from tenth.core.rng import Draws
from tenth.data.face_crops import People
from tenth.data.manifest import Row, write_rows
from tenth.models.pocket.paths import CONFIGS
from tenth.training.pocket.dataset import Examples, means_of_others
from tenth.training.pocket.modules import Trainable


def draws(batch: int, step: int = 0) -> Draws:
    return Draws(0, step, batch)


def examples(count: int = 6) -> Examples:
    parts = Trainable.create(CONFIGS)
    embeddings = torch.arange(count)[:, None].float().repeat(1, 128)
    others = torch.tensor([(0, 1), (1, 3), (1, 3), (1, 3), (4, 2), (4, 2)])
    return Examples(
        latents=draws(count).normal(2, 8, 16, 16),
        embeddings=embeddings,
        tokens=torch.stack([parts.tokens(["a man", "a woman"])] * count),
        others=others,
        several=means_of_others(embeddings, others),
    )


def people_of(folder: Path, photos: list[Path], validation: int = 0) -> People:
    """Example photos as four people of the training split, and as many as that of the validation split."""
    rows = []
    for path in photos:
        place = int(path.stem)
        person, split = (f"v{place}", "validation") if place <= validation else (f"p{place % 4}", "train")
        captions = ("a woman", "a woman with glasses")
        rows.append(Row(path.name, person, split, 1, captions[1], captions, file_digest(path)))
    write_rows(folder / "people.jsonl", sorted(rows, key=lambda row: row.person))
    return People(folder / "people.jsonl", photos[0].parent)
