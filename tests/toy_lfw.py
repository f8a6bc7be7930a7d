"""Toy photos in LFW's layout: drawn pixels, each unlike any other."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def jpeg(name: str, number: int, quality: int = 75) -> bytes:
    """A picture of (250, 250, 3) that is unlike any other: 16 x 16 random tiles."""
    seed = int.from_bytes(hashlib.sha256(f"{name}{number}".encode()).digest()[:4], "big")
    tiles = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(tiles).resize((250, 250), Image.Resampling.BICUBIC).save(file, "JPEG", quality=quality)
    return file.getvalue()


def layout(folder: Path, sizes: Mapping[str, int]) -> Path:
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        for number in range(1, size + 1):
            (folder / name / f"{name}_{number:04d}.jpg").write_bytes(jpeg(name, number))
    return folder
