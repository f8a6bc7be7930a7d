"""The only training loop. It knows parameters, items and a loss; what is learnt is the caller's."""

from __future__ import annotations

import atexit
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.distributed.nn  # now: imported while a group exists, its functions' defaults would keep the group, and its threads
from accelerate import PartialState
from torch import Tensor, nn

from tenth.averages import Averages
from tenth.checkpoint import claimed, load_checkpoint, save_checkpoint
from tenth.config import later
from tenth.draws import Draws, seed_of
from tenth.errors import CheckpointError, DataError, RecipeError
from tenth.optimizer import MOMENTS, OPTIMIZERS, optimizer_of
from tenth.watch import Board, Seen, stopping

Loss = Callable[[Tensor, Draws], Tensor]  # (item indices (B,), this part's random numbers) -> the mean over the part, a scalar
Watch = Callable[[int, Mapping[str, Tensor]], Seen | None]  # (images seen, averaged weights by name), before each checkpoint

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and how often. Time is counted in images, so that the batch size can change."""

    images: int  # seen in all
    batch: int = 64  # images a step, over all processes and parts
    accumulate: int = 1  # parts in which a process works through its share of a batch: memory for time
    learning_rate: float = 1e-4  # peak, after the warm-up; a cosine then takes it to zero
    warmup: int = 10_000  # images over which the rate rises from zero
    cooldown: int = later(0)  # images at the end over which it falls to zero, constant before; 0: the cosine
    weight_decay: float = 1e-2
    clip: float = 1.0  # largest norm of the gradient
    half_life: int = 20_000  # images after which a weight's share in the average has halved; shorter at the start
    half_lives: tuple[int, ...] = later(())  # of further averages, which checkpoints keep beside it, to choose from afterwards
    save_every: int = 20_000  # images between checkpoints
    seed: int = 0
    optimizer: str = "adamw"  # or "adamw-8bit": its moments in a quarter of the memory; or "muon" (optimizer.py)
    precision: str = "bf16"  # of autocast: bf16, fp16 (with a scaled loss) or fp32; weights and their averages stay float32

    def __post_init__(self) -> None:
        for name in ("images", "batch", "accumulate", "half_life", "save_every", "learning_rate", "clip"):
            _check(name, getattr(self, name), getattr(self, name) > 0, "more than 0")
        _check("accumulate", self.accumulate, self.batch % self.accumulate == 0, f"a divisor of the batch of {self.batch}")
        _check("warmup", self.warmup, self.warmup >= 0, "0 or more")
        _check("cooldown", self.cooldown, 0 <= self.cooldown <= self.images, "from 0 to all images")
        lengths = (self.half_life, *self.half_lives)
        _check("half_lives", self.half_lives, min(lengths) > 0 and len(set(lengths)) == len(lengths), "distinct, more than 0")
        _check("optimizer", self.optimizer, self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}")
        _check("precision", self.precision, self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")

    @property
    def steps(self) -> int:
        """Steps in all; the last one may see more images than are asked for."""
        return math.ceil(self.images / self.batch)


def fit(
    modules: Mapping[str, nn.Module], loss: Loss, items: int, schedule: Schedule, directory: Path, watch: Watch | None = None
) -> dict[str, Tensor]:
    """Train `modules` and return the moving average of their weights, by "module.parameter".

    loss: a function of item indices in [0, items) and of random numbers that depend on (seed, step) alone, so that a run that
    was killed and resumed sees the same. Under torchrun the batch is split over the processes, and each weights the same.
    directory: where checkpoints are; if there is one, it goes on from it. Ctrl-C and SIGTERM save after the step and raise
    KeyboardInterrupt. Source of the averaging's warm-up: Karras et al. 2022, arXiv:2206.00364, appendix F.
    Raises DataError at a loss that is not finite, CheckpointError at checkpoints of other modules, all damaged or in use.
    """
    state = processes()
    learning = Learning(modules, schedule, state)
    with claimed(directory, state.is_main_process), stopping() as stop, Board(directory, state.is_main_process) as board:
        # Go on from the newest whole checkpoint, all processes from the same one.
        state.wait_for_everyone()
        step = learning.restore(directory)
        save_steps = max(1, schedule.save_every // schedule.batch)
        board.begin(step * schedule.batch, schedule.steps * schedule.batch)

        while step < schedule.steps:
            # What this step sees is a pure function of (seed, step); so is what dropout layers draw.
            indices = order(items, schedule.seed, step * schedule.batch, schedule.batch)
            torch.manual_seed(seed_of("dropout", schedule.seed, step * state.num_processes + state.process_index))

            # Forward and backward, part by part: gradients add up to the mean over this process's share.
            value = torch.zeros(2, device=state.device)  # the loss, and whether somebody wants to stop
            for part in learning.parts:
                draws = Draws(schedule.seed, step, schedule.batch, part)
                with torch.autocast(state.device.type, learning.precision, enabled=schedule.precision != "fp32"):
                    error = loss(indices[part], draws) / schedule.accumulate
                learning.scaler.scale(error).backward()
                value[0] += error.detach()

            # All processes see one loss and one gradient, and stop at one step.
            value[1] = float(stop.wanted)
            learning.reduce(value)
            _check_finite(float(value[0]), step)
            rate = learning_rate(schedule, step * schedule.batch)
            norm = learning.update(rate)
            step += 1
            seen = step * schedule.batch
            learning.averages.add(seen, schedule.batch)
            board.step(seen, {"loss": float(value[0]), "learning rate": rate, "gradient norm": norm})

            # Watched before it is saved: whatever is saved has been watched, also if a kill comes between the two.
            wanted, last = bool(value[1] > 0), step == schedule.steps
            average = learning.averages.first
            if last or wanted or step % save_steps == 0:
                if state.is_main_process and (last or not wanted):
                    board.checkpoint(seen, average, watch(seen, average) if watch else None)
                learning.save(directory, step)
            if wanted and not last:
                raise KeyboardInterrupt
    return learning.averages.first


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


@contextmanager
def averaged(modules: Mapping[str, nn.Module], average: Mapping[str, Tensor]) -> Iterator[None]:
    """The averaged weights in their modules, and the trained ones back afterwards, to the last bit."""
    parameters = parameters_of(modules)
    kept = {name: parameters[name].detach().clone() for name in average}
    load_averaged(modules, average)
    try:
        yield
    finally:
        load_averaged(modules, kept)


@torch.no_grad()
def load_averaged(modules: Mapping[str, nn.Module], average: Mapping[str, Tensor]) -> None:
    """Put weights by "module.parameter", as `fit` gives them, into their modules."""
    parameters = parameters_of(modules)
    for name, value in average.items():
        parameters[name].copy_(value)


def parameters_of(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter by "module.parameter"."""
    return {f"{name}.{inner}": value for name, module in modules.items() for inner, value in module.named_parameters()}


class Learning:
    """The weights that learn, their moving average, optimizer and gradient scaler, on one process's device."""

    def __init__(self, modules: Mapping[str, nn.Module], schedule: Schedule, state: PartialState) -> None:
        for module in modules.values():
            module.to(state.device)
        self.schedule, self.state, self.precision = schedule, state, PRECISIONS[schedule.precision]
        self.names, self.parameters = zip(*_named_parameters(modules), strict=True)
        self.parts = parts_of(schedule, state.num_processes, state.process_index)
        if state.num_processes > 1:
            for parameter in self.parameters:
                torch.distributed.broadcast(parameter.data, 0)
        self.averages = Averages(self.names, self.parameters, (schedule.half_life, *schedule.half_lives))
        tables = {each.weight for module in modules.values() for each in module.modules() if isinstance(each, nn.Embedding)}
        rate, decay = schedule.learning_rate, schedule.weight_decay
        self.optimizer = optimizer_of(schedule.optimizer, self.parameters, rate, decay, tables)
        self.scaler = torch.amp.GradScaler(state.device.type, enabled=schedule.precision == "fp16")

    def reduce(self, value: Tensor) -> None:
        """The mean over processes of `value` and of all gradients, in place."""
        if self.state.num_processes > 1:
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            flat = torch.cat([value, *(gradient.flatten() for gradient in gradients)])
            torch.distributed.all_reduce(flat)
            flat /= self.state.num_processes
            value.copy_(flat[: len(value)])
            places = flat[len(value) :].split([gradient.numel() for gradient in gradients])
            for gradient, mean in zip(gradients, places, strict=True):
                gradient.copy_(mean.view_as(gradient))

    def update(self, rate: float) -> float:
        """One step at this rate with clipped gradients. Gives their norm before."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.schedule.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return float(norm)

    def save(self, directory: Path, step: int) -> None:
        """Write a checkpoint, on the main process."""
        tensors = self.averages.tensors()
        for name, parameter in zip(self.names, self.parameters, strict=True):
            tensors[f"weight.{name}"] = parameter
            moments = self.optimizer.state[parameter].items()
            tensors |= {f"{key}.{name}": torch.as_tensor(value).clone() for key, value in moments if key in MOMENTS}
        tensors |= {f"scaler.{key}": torch.tensor(value) for key, value in self.scaler.state_dict().items()}
        if self.state.is_main_process:
            save_checkpoint(directory, step, tensors)

    def restore(self, directory: Path) -> int:
        """Go on from the newest whole checkpoint. Gives its step, 0 where there is none."""
        checkpoint = load_checkpoint(directory)
        if checkpoint is None:
            return 0
        for line in checkpoint.skipped if self.state.is_main_process else ():
            print(line, file=sys.stderr)
        saved = {name: tensor.shape for name, tensor in checkpoint.tensors.items() if name.startswith(("weight.", "average."))}
        parameters = dict(zip(self.names, self.parameters, strict=True)).items()
        if saved != {f"{part}.{name}": value.shape for part in ("weight", "average") for name, value in parameters}:
            found = f"{directory} holds a checkpoint of other weights"
            raise CheckpointError(found, "one of this recipe is needed to go on", "Choose another directory")
        with torch.no_grad():
            self.averages.restore(checkpoint.tensors)
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(checkpoint.tensors[f"weight.{name}"])
                kept = {key: checkpoint.tensors[f"{key}.{name}"] for key in MOMENTS if f"{key}.{name}" in checkpoint.tensors}
                self.optimizer.state[parameter] = {key: self.placed(key, value, parameter) for key, value in kept.items()}
        scaled = {key: checkpoint.tensors.get(f"scaler.{key}") for key in self.scaler.state_dict()}
        self.scaler.load_state_dict({key: value.item() for key, value in scaled.items() if value is not None})
        return checkpoint.step

    def placed(self, key: str, value: Tensor, parameter: nn.Parameter) -> Tensor | int:
        """As the optimizer keeps it: moments beside the parameter; AdamW's step on the CPU, that of eight bits a number."""
        if key == "step":
            return value if self.schedule.optimizer != "adamw-8bit" else int(value)
        return value.to(parameter.device)


def parts_of(schedule: Schedule, processes: int, process: int) -> list[slice]:
    """The parts of a step's batch that one process works through. Raises RecipeError if they cannot all be of one size."""
    count = processes * schedule.accumulate
    _check("batch", schedule.batch, schedule.batch % count == 0, f"a multiple of {count}: {processes} processes x accumulate")
    size = schedule.batch // count
    mine = range(process * schedule.accumulate, (process + 1) * schedule.accumulate)
    return [slice(part * size, (part + 1) * size) for part in mine]


def learning_rate(schedule: Schedule, seen: int) -> float:
    """Linear warm-up, then a cosine to zero at the last image; or constant, and a line to zero over the cooldown.

    Source of the second, which lets a run be as long as there is time: Hägele et al. 2024, arXiv:2405.18392.
    """
    warm = min(1.0, (seen + schedule.batch) / schedule.warmup) if schedule.warmup else 1.0
    if schedule.cooldown:
        return schedule.learning_rate * warm * min(1.0, max(0.0, (schedule.images - seen) / schedule.cooldown))
    return schedule.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / schedule.images)))


def order(items: int, seed: int, start: int, count: int) -> Tensor:
    """Items start ... start + count of an endless sequence of shuffled epochs: a pure function of its arguments."""
    indices = []
    for epoch in range(start // items, (start + count - 1) // items + 1):
        generator = torch.Generator().manual_seed(seed_of("order", seed, epoch))
        shuffled = torch.randperm(items, generator=generator)
        first, last = max(start - epoch * items, 0), min(start + count - epoch * items, items)
        indices.append(shuffled[first:last])
    return torch.cat(indices)


def _named_parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        for inner, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield f"{name}.{inner}", parameter


def _check_finite(value: float, step: int) -> None:
    if not math.isfinite(value):
        raise DataError(
            f"the loss is {value} at step {step}", "a finite loss is needed", "Look for NaN in the data, or lower learning_rate"
        )


def _check(key: str, value: object, right: bool, needed: str) -> None:
    if not right:
        raise RecipeError(f"{key} is {value!r}", f"needed: {needed}", "Correct the recipe")
