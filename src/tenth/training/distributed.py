"""Several processes in one training: ranks, and the micro-batches of each."""

from __future__ import annotations

import atexit
from functools import cache

import torch
import torch.distributed.nn  # now: imported while a group exists, its functions' defaults would keep the group, and its threads
from accelerate import PartialState

from tenth.training.schedule import Schedule, _check


def processes() -> PartialState:
    """This process's device, its number and how many there are: one, unless torchrun started several."""
    # Without `cpu` accelerate does not join processes that have no accelerator.
    state = PartialState(cpu=not torch.accelerator.is_available())
    _leave_at_exit()
    return state


@cache
def _leave_at_exit() -> None:
    """The group is left, and its threads joined, before Python ends: a process that ends while they run can abort."""

    def leave() -> None:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    atexit.register(leave)


def parts_of(schedule: Schedule, processes: int, process: int) -> list[slice]:
    """The parts of a step's batch that one process works through. Raises RecipeError if they cannot all be of one size."""
    count = processes * schedule.accumulate
    _check("batch", schedule.batch, schedule.batch % count == 0, f"a multiple of {count}: {processes} processes x accumulate")
    size = schedule.batch // count
    mine = range(process * schedule.accumulate, (process + 1) * schedule.accumulate)
    return [slice(part * size, (part + 1) * size) for part in mine]
