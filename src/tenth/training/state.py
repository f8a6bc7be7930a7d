"""What a training run keeps: parameters, their moving average, the optimizer; saved and restored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed.nn  # now: imported while a group exists, its functions' defaults would keep the group, and its threads
from accelerate import PartialState
from torch import Tensor, nn

from tenth.core.errors import CheckpointError
from tenth.training.averages import Averages
from tenth.training.checkpoint import load_checkpoint, save_checkpoint
from tenth.training.distributed import parts_of
from tenth.training.optimizer import MOMENTS, optimizer_of
from tenth.training.schedule import PRECISIONS, Schedule


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


def _named_parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        for inner, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield f"{name}.{inner}", parameter
