"""Tasks of an experiment, for workers in other processes. Apart from toy_runners.py: these need torch, workers alone do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.types import DiffusionModel
from tenth.experiments.costs import Cost, CostLog


@dataclass(frozen=True)
class ModelTask:
    """A task of an experiment: which model does it, and its number."""

    folder: Path
    number: int

    @property
    def costs(self) -> Path:
        return self.folder / "costs.jsonl"

    def __call__(self, model: DiffusionModel, costs: CostLog) -> tuple[str, int]:
        costs.append(Cost(1.0), task="images", method="toy")
        return model.name, self.number


@dataclass(frozen=True)
class RefusedTask:
    """A task that cannot be done."""

    costs: Path

    def __call__(self, model: DiffusionModel, costs: CostLog) -> None:
        raise DataError(f"a task for {model.name} and {costs.path}", "another is needed", "Give another")
