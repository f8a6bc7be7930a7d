"""Who does the work of an experiment: this process, or several on this machine, each with a model of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from tenth.core.errors import InputError
from tenth.core.types import DiffusionModel
from tenth.core.workers.tasks import run_tasks
from tenth.experiments.costs import CostLog, append_lines
from tenth.methods.registry import method_parts
from tenth.models.adapters.ip_adapter import ADAPTER_FILE
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model

R_co = TypeVar("R_co", covariant=True)


class Task(Protocol[R_co]):
    """A part of the work. It writes its files itself; costs: the file of its costs, which the experiment's process writes."""

    @property
    def costs(self) -> Path: ...
    def __call__(self, model: DiffusionModel, costs: CostLog) -> R_co: ...


@dataclass(frozen=True, eq=False)
class ExperimentWorkers:
    """model: of this process. count: how many processes share the work, each on one thread; 0: this one does it alone.

    name, options: what the others load, as `load_model` reads them. methods: those whose adapters they need.
    """

    model: DiffusionModel
    name: str = ""
    options: LoadOptions = field(default_factory=LoadOptions)
    methods: Sequence[str] = ()
    count: int = 0

    def results(self, tasks: Iterable[Task[R_co]]) -> Iterator[R_co]:
        """What the tasks return, in the order in which they end. Raises the first InputError of one, and ends the others."""
        if not self.count:
            yield from (task(self.model, CostLog(task.costs)) for task in tasks)
            return
        make_runner = partial(TaskRunner, self.name, self.options, self.methods)
        outcomes = run_tasks(make_runner, tasks, workers=self.count, gpus=torch.cuda.device_count() / self.count)
        with closing(outcomes):  # type: ignore[type-var]  # a generator, which ends its workers
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                assert outcome.result is not None
                result, lines = outcome.result
                if lines:
                    append_lines(outcome.task.costs, lines)
                yield result


class TaskRunner:
    """Does tasks in a process of its own. Each answers with its result and the lines of its costs."""

    def __init__(self, name: str, options: LoadOptions, methods: Sequence[str]) -> None:
        self.model = load_model(name, options=options, on_message=partial(print, file=sys.stderr))
        ensure_adapters(self.model, methods)

    def __call__(self, task: Task[R_co]) -> tuple[R_co, list[dict[str, Any]]]:
        costs = CostLog(task.costs, waits=True)
        return task(self.model, costs), costs.lines


def ensure_adapters(model: DiffusionModel, methods: Iterable[str]) -> None:
    """Load the adapters that were trained with aggregators: identities that another process made are then known.

    What cannot be loaded is left to the method, which says why.
    """
    for part in method_parts(methods):
        folder = Path(part) if Path(part).is_dir() else model.trained_methods.get(part)
        if folder is not None and (folder / ADAPTER_FILE).is_file():
            with suppress(InputError):
                model.add_adapter(folder / ADAPTER_FILE)
