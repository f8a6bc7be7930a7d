"""A small training set in files: drawn photos, encoded by a toy model whose image encoder reads a photo's mean colour."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tenth.core.types import Photo
from tenth.data.faces.crops import PhotoDataset
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.models.pocket.loader import load_pocket

COUNTS = {"anna": 3, "bert": 2, "carl": 1, "dora": 4, "emil": 2, "fred": 5, "gina": 3, "hans": 2}


class ColourEncoder:
    """Photos whose embedding is their mean colour, many times."""

    name, embedding_dim, num_tokens, crops_faces, dlib_mean = "colours@0", 128, 0, False, None

    def null_embedding(self) -> torch.Tensor:
        return torch.zeros(self.embedding_dim)

    def raw_embeddings(self, photos: Sequence[Photo]) -> torch.Tensor:
        colours = torch.stack([torch.tensor(photo.pixels).double().mean((0, 1)) / 128 - 1 for photo in photos])
        return torch.cat([colours.sin(), *(colours * scale for scale in range(1, 43))], 1)[:, :128]

    def standardize(self, raw: torch.Tensor) -> torch.Tensor:
        return raw.float()

    def __call__(self, photos: Sequence[Photo]) -> torch.Tensor:
        return self.standardize(self.raw_embeddings(photos))


def toy_networks(folder: Path) -> LatentDiffusion:
    """The toy model with that encoder."""
    model = load_pocket(folder, name="toy")
    model.encoder = ColourEncoder()
    return model


def load_toy_networks(name: Any, options: Any = None) -> LatentDiffusion:
    """In the place of `load_model`: the name is the toy model's folder."""
    del options
    return toy_networks(Path(name))


def write_people(folder: Path, counts: Mapping[str, int] = COUNTS) -> PhotoDataset:
    """Photos of one colour each, and their people.jsonl."""
    rows = []
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            path = folder / name / f"{number}.png"
            colour = np.random.default_rng([len(rows), 7]).integers(0, 256, 3, np.uint8)
            Image.fromarray(np.broadcast_to(colour, (64, 64, 3)).copy()).save(path)
            captions = ["a photo of a person", f"a photo of a {'man' if count % 2 else 'woman'}"][: 1 + number % 2]
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            row = {"file": f"{name}/{number}.png", "person": name, "split": "train", "fold": 1, "digest": digest}
            rows.append(row | {"caption": captions[0], "captions": captions})
    (folder / "people.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return PhotoDataset(folder / "people.jsonl", folder)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
