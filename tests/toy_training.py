"""A stage of training that is stopped at its first call, as by Ctrl-C, and ends at its second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenth.core.config import config_dataclass
from tenth.training.registry import STAGES, Stage


@config_dataclass
class ToyRecipe:
    images: int
    stage: str = "toy"


def train_toy(recipe: ToyRecipe, directory: Path) -> None:
    """Stops as Ctrl-C does at the first call, ends at the second."""
    if not (directory / "step").exists():
        (directory / "step").write_text(str(recipe.images))
        raise KeyboardInterrupt
    (directory / "final").mkdir()


def toy_recipe(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of that stage at `path`."""
    monkeypatch.setattr("tenth.training.registry.STAGES", {**STAGES, "toy": Stage(ToyRecipe, train_toy, "a toy")})
    path.write_text("stage = 'toy'\nimages = 3\n")
    return path
