"""Distributed training: this process's rank and device, and its micro-batches."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from datetime import timedelta

import torch
import torch.distributed.nn  # imported while a group exists, its functions' defaults would keep the group and its threads alive
from accelerate import PartialState

from tenth.core.config import require
from tenth.models.memory.planner import DEVICE_VARIABLE
from tenth.training.schedule import TrainingConfig

ENCODING_TIME = timedelta(hours=12)  # that processes wait for one another: the first encodes all photos before the others go on


def distributed_state() -> PartialState:
    """This process's device and rank, and the number of processes: one, unless torchrun started several.

    The device is the accelerator, if there is one and TENTH_DEVICE is not cpu.
    """
    # Without `cpu` accelerate does not join processes that have no accelerator.
    on_cpu = os.environ.get(DEVICE_VARIABLE) == "cpu" or not torch.accelerator.is_available()
    state = PartialState(cpu=on_cpu, timeout=ENCODING_TIME)
    # Registering a function again moves it to the end of the list: it is still called once.
    atexit.unregister(_destroy_group)
    atexit.register(_destroy_group)
    return state


def in_main_process(action: Callable[[], None]) -> None:
    """Do something in the main process, and wait for it in the others. What it raises ends these without a word of theirs."""
    state = distributed_state()
    problem: Exception | None = None
    if state.is_main_process:
        try:
            action()
        except Exception as error:  # noqa: BLE001 - raised below, when the others know
            problem = error
    failed = torch.tensor(float(problem is not None), device=state.device)
    if state.num_processes > 1:
        torch.distributed.all_reduce(failed)
    if problem is not None:
        raise problem
    if failed:
        raise SystemExit(1)


def _destroy_group() -> None:
    """Leave the group and join its threads before Python ends: a process that ends while they run can abort."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def micro_batches(schedule: TrainingConfig, num_processes: int, process_index: int) -> list[slice]:
    """The slices of a step's batch that this process computes in turn. Raises RecipeError if they are of unequal size."""
    num_parts = num_processes * schedule.gradient_accumulation_steps
    expected = f"a multiple of {num_parts}: {num_processes} processes x gradient_accumulation_steps"
    require(schedule.batch_size % num_parts == 0, "batch_size", schedule.batch_size, expected)
    size = schedule.batch_size // num_parts
    first = process_index * schedule.gradient_accumulation_steps
    parts = range(first, first + schedule.gradient_accumulation_steps)
    return [slice(part * size, (part + 1) * size) for part in parts]
