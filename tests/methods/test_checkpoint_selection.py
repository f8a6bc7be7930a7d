"""The checkpoint that is kept of one person's run, and what shows how the run went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenth.core.types import Pixels
from tenth.data.photo import open_photo
from tenth.methods.dreambooth import checkpoint_selection as choosing
from tenth.methods.dreambooth.checkpoint_selection import CheckpointImages, build_selector, embed_images, mean_similarity
from tenth.sampling.config import SamplingConfig
from tenth.training.monitoring import read_history
from toy_marks import assert_marked

PROMPTS, FEW = [f"prompt {number}" for number in range(8)], SamplingConfig(steps=1)


def shade(value: int) -> Pixels:
    return np.full((8, 8, 3), value, np.uint8)


class Shades:
    """A model that draws pictures of the next shade each time it is asked."""

    def __init__(self, *shades: int) -> None:
        self.shades = iter(shades)

    def sample(self, prompts: Sequence[str]) -> list[Pixels]:
        assert prompts == ("prompt 0", "prompt 2", "prompt 4", "prompt 6")
        value = next(self.shades)
        return [shade(value)] * len(prompts)


def directions(_: Any, pictures: Sequence[Pixels]) -> np.ndarray:
    """A picture's shade in degrees, as a direction; no face in black."""
    angles = np.deg2rad([float(picture.mean()) for picture in pictures])
    rows = np.stack([np.cos(angles), np.sin(angles)], 1)
    rows[angles == 0] = np.nan
    return rows


def test_the_checkpoint_nearest_to_the_held_out_photo_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "embed_images", directions)
    monkeypatch.setattr(choosing, "sample", lambda batch: batch.model.sample(batch.prompts))
    model: Any = Shades(60, 100, 160, 0)
    choice = build_selector(model, [shade(170), shade(190)], [shade(110)], CheckpointImages(PROMPTS, FEW), tmp_path)
    assert choice is not None
    made = [choice(seen) for seen in (10, 20, 30, 40)]
    assert [best for best, _ in made] == [True, True, False, False]
    history = read_history(tmp_path)
    assert [line["similarity"] for line in history[:3]] == pytest.approx([np.cos(np.deg2rad(a)) for a in (50, 10, 50)])
    assert history[2]["references"] > history[1]["references"]  # it overfits: nearer to what it learns from
    assert history[2]["copy"] > history[1]["copy"]
    assert history[3]["similarity"] == 0.0  # no face counts as a stranger's
    assert history[3]["copy"] is None
    assert made[1][1]["person/held-out photos"] == history[1]["similarity"]
    assert_marked(tmp_path / "samples.png", *(tmp_path / "samples").glob("*.png"))


def test_without_a_face_on_either_side_nothing_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "embed_images", directions)
    assert build_selector(Shades(), [shade(0)], [shade(1)], CheckpointImages(PROMPTS, FEW), tmp_path) is None  # type: ignore[arg-type]
    assert build_selector(Shades(), [shade(1)], [shade(0)], CheckpointImages(PROMPTS, FEW), tmp_path) is None  # type: ignore[arg-type]


def test_the_model_s_own_encoder_reads(toy_model: Any, face_photos: list[Path]) -> None:
    assert toy_model.encoder.crops_faces
    pictures = [open_photo(path).pixels for path in face_photos[:2]]
    rows = embed_images(toy_model, [*pictures, np.zeros((128, 128, 3), np.uint8)])
    assert np.isnan(rows).any(1).tolist() == [False, False, True]
    assert mean_similarity(rows[:1], rows[:1]) == pytest.approx(1)
    assert mean_similarity(rows[2:], rows[:1]) == 0
