"""Several processes in one training: ranks, and the micro-batches of each."""

from __future__ import annotations

import atexit
from functools import cache

import torch
import torch.distributed.nn  # now: imported while a group exists, its functions' defaults would keep the group, and its threads
from accelerate import PartialState

from tenth.training.schedule import TrainingConfig, _check_setting


def distributed_state() -> PartialState:
    """This process's device, its number and how many there are: one, unless torchrun started several."""
    # Without `cpu` accelerate does not join processes that have no accelerator.
    state = PartialState(cpu=not torch.accelerator.is_available())
    _destroy_group_at_exit()
    return state


@cache
def _destroy_group_at_exit() -> None:
    """The group is left, and its threads joined, before Python ends: a process that ends while they run can abort."""

    def destroy_group() -> None:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    atexit.register(destroy_group)


def micro_batches(schedule: TrainingConfig, num_processes: int, process_index: int) -> list[slice]:
    """The parts of a step's batch that one process works through. Raises RecipeError if they cannot all be of one size."""
    num_parts = num_processes * schedule.gradient_accumulation_steps
    _check_setting(
        "batch_size",
        schedule.batch_size,
        schedule.batch_size % num_parts == 0,
        f"a multiple of {num_parts}: {num_processes} processes x gradient_accumulation_steps",
    )
    size = schedule.batch_size // num_parts
    part_indices = range(
        process_index * schedule.gradient_accumulation_steps, (process_index + 1) * schedule.gradient_accumulation_steps
    )
    return [slice(part * size, (part + 1) * size) for part in part_indices]
