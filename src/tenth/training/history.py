"""The history of a training run: one score and one strip of images per checkpoint, on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tenth.core.errors import CheckpointError
from tenth.core.files.reading import UnreadableError, open_regular, parse_json, read_lines, reason
from tenth.core.files.writing import write_png, write_text
from tenth.core.types import Pixels, Score

HISTORY_FILE = "validation.jsonl"  # a line per checkpoint
STRIP_FILE = "samples.png"  # a row per checkpoint, a column per person
MAX_ROW_BYTES = 1 << 28


def append_history(directory: Path, images_seen: int, score: Score, images: Sequence[Pixels], **extra: float | None) -> bool:
    """Add a line to the history and a row to the strip. Returns whether this checkpoint is the best so far.

    images: (H, W, 3) each, all of one height. extra: more numbers for the line. What a killed run wrote beyond this checkpoint
    is replaced. Raises CheckpointError if the history is damaged.
    """
    history = [line for line in read_history(directory) if line["images"] < images_seen]
    best = score.value is not None and all(score.value > (before["similarity"] or -1.0) for before in history)
    line = {"images": images_seen, "similarity": score.value, "low": score.low, "high": score.high, **extra, "best": best}
    write_text(directory / HISTORY_FILE, "".join(json.dumps(entry) + "\n" for entry in [*history, line]))

    # A row that is damaged, or of another run's size, is left out of the strip.
    folder, newest = directory / "samples", image_strip(images)
    write_png(folder / f"{images_seen:09}.png", Image.fromarray(newest))
    earlier = [path for path in sorted(folder.glob("*.png")) if path.stem.isdecimal() and int(path.stem) < images_seen]
    rows = [row for path in earlier if (row := _read_row(path)) is not None and row.shape == newest.shape]
    write_png(directory / STRIP_FILE, Image.fromarray(np.concatenate([*rows, newest])))
    return best


def image_strip(images: Sequence[Pixels]) -> Pixels:
    """N images (H, W, 3) side by side: (H, N W, 3)."""
    return np.concatenate(list(images), 1)


def read_history(directory: Path) -> list[dict[str, float]]:
    """The lines of validation.jsonl, none where there is no such file. Raises CheckpointError if it is damaged."""
    path = directory / HISTORY_FILE
    try:
        lines = [parse_json(line) for line in read_lines(path)]
        for number, line in enumerate(lines, 1):
            required = [line.get("images"), line.get("similarity") or 0.0] if isinstance(line, dict) else [None]
            if not all(type(value) in (int, float) for value in required):
                raise UnreadableError(f"says nothing in line {number}")
    except FileNotFoundError:
        return []
    except (OSError, UnreadableError) as problem:
        needed = "the history of this training is needed, or none"
        raise CheckpointError(f"{path} {reason(problem)}", needed, "Remove it: it is begun anew") from problem
    return lines


def _read_row(path: Path) -> Pixels | None:
    try:
        with open_regular(path, MAX_ROW_BYTES) as file:
            return np.asarray(Image.open(file, formats=["PNG"]).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
