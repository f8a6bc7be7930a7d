"""Who does the work of an experiment: this process, or several on this machine, each with a model of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from tenth.core.types import DiffusionModel
from tenth.core.workers.tasks import run_tasks
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model

R = TypeVar("R")


@dataclass(frozen=True, eq=False)
class ExperimentWorkers:
    """model: of this process. count: how many processes share the work, each on one thread; 0: this one does it alone.

    name, options: what the others load, as `load_model` reads them.
    """

    model: DiffusionModel
    name: str = ""
    options: LoadOptions = field(default_factory=LoadOptions)
    count: int = 0

    def results(self, tasks: Iterable[Callable[[DiffusionModel], R]]) -> Iterator[R]:
        """What the tasks return, in the order in which they end. Raises the first InputError of one, and ends the others."""
        if not self.count:
            yield from (task(self.model) for task in tasks)
            return
        outcomes = run_tasks(partial(TaskRunner, self.name, self.options), tasks, workers=self.count)
        with closing(outcomes):  # type: ignore[type-var]  # a generator, which ends its workers
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                yield outcome.result  # type: ignore[misc]  # a task without an error has one


class TaskRunner:
    """Does tasks in a process of its own."""

    def __init__(self, name: str, options: LoadOptions) -> None:
        self.model = load_model(name, options=options, on_message=partial(print, file=sys.stderr))

    def __call__(self, task: Callable[[DiffusionModel], R]) -> R:
        return task(self.model)
