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
from tenth.training.averages import EMAWeights
from tenth.training.checkpoint import load_checkpoint, save_checkpoint
from tenth.training.distributed import micro_batches
from tenth.training.optimizer import STATE_KEYS, create_optimizer
from tenth.training.schedule import PRECISIONS, TrainingConfig


@contextmanager
def ema_weights(modules: Mapping[str, nn.Module], ema: Mapping[str, Tensor]) -> Iterator[None]:
    """The averaged weights in their modules, and the trained ones back afterwards, to the last bit."""
    parameters = named_parameters(modules)
    saved = {name: parameters[name].detach().clone() for name in ema}
    load_weights(modules, ema)
    try:
        yield
    finally:
        load_weights(modules, saved)


@torch.no_grad()
def load_weights(modules: Mapping[str, nn.Module], ema: Mapping[str, Tensor]) -> None:
    """Put weights by "module.parameter", as `fit` gives them, into their modules."""
    parameters = named_parameters(modules)
    for name, value in ema.items():
        parameters[name].copy_(value)


def named_parameters(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter by "module.parameter"."""
    return {f"{name}.{inner}": value for name, module in modules.items() for inner, value in module.named_parameters()}


class TrainState:
    """The weights that learn, their moving average, optimizer and gradient scaler, on one process's device."""

    def __init__(self, modules: Mapping[str, nn.Module], schedule: TrainingConfig, distributed: PartialState) -> None:
        for module in modules.values():
            module.to(distributed.device)
        self.schedule, self.distributed, self.precision = schedule, distributed, PRECISIONS[schedule.precision]
        self.names, self.parameters = zip(*_trainable_parameters(modules), strict=True)
        self.micro_batches = micro_batches(schedule, distributed.num_processes, distributed.process_index)
        if distributed.num_processes > 1:
            for parameter in self.parameters:
                torch.distributed.broadcast(parameter.data, 0)
        self.ema = EMAWeights(self.names, self.parameters, (schedule.ema_halflife_images, *schedule.extra_ema_halflives_images))
        embedding_weights = {
            each.weight for module in modules.values() for each in module.modules() if isinstance(each, nn.Embedding)
        }
        learning_rate, weight_decay = schedule.learning_rate, schedule.weight_decay
        self.optimizer = create_optimizer(schedule.optimizer, self.parameters, learning_rate, weight_decay, embedding_weights)
        self.scaler = torch.amp.GradScaler(distributed.device.type, enabled=schedule.precision == "fp16")

    def all_reduce_mean(self, value: Tensor) -> None:
        """The mean over processes of `value` and of all gradients, in place."""
        if self.distributed.num_processes > 1:
            gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
            flat = torch.cat([value, *(gradient.flatten() for gradient in gradients)])
            torch.distributed.all_reduce(flat)
            flat /= self.distributed.num_processes
            value.copy_(flat[: len(value)])
            reduced = flat[len(value) :].split([gradient.numel() for gradient in gradients])
            for gradient, mean in zip(gradients, reduced, strict=True):
                gradient.copy_(mean.view_as(gradient))

    def optimizer_step(self, learning_rate: float) -> float:
        """One step at this rate with clipped gradients. Gives their norm before."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.schedule.max_grad_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return float(norm)

    def save(self, directory: Path, step: int) -> None:
        """Write a checkpoint, on the main process."""
        tensors = self.ema.state_dict()
        for name, parameter in zip(self.names, self.parameters, strict=True):
            tensors[f"weight.{name}"] = parameter
            moments = self.optimizer.state[parameter].items()
            tensors |= {f"{key}.{name}": torch.as_tensor(value).clone() for key, value in moments if key in STATE_KEYS}
        tensors |= {f"scaler.{key}": torch.tensor(value) for key, value in self.scaler.state_dict().items()}
        if self.distributed.is_main_process:
            save_checkpoint(directory, step, tensors)

    def restore(self, directory: Path) -> int:
        """Go on from the newest whole checkpoint. Gives its step, 0 where there is none."""
        checkpoint = load_checkpoint(directory)
        if checkpoint is None:
            return 0
        for line in checkpoint.skipped if self.distributed.is_main_process else ():
            print(line, file=sys.stderr)
        saved = {name: tensor.shape for name, tensor in checkpoint.tensors.items() if name.startswith(("weight.", "average."))}
        parameters = dict(zip(self.names, self.parameters, strict=True)).items()
        if saved != {f"{part}.{name}": value.shape for part in ("weight", "average") for name, value in parameters}:
            found = f"{directory} holds a checkpoint of other weights"
            raise CheckpointError(found, "one of this recipe is needed to go on", "Choose another directory")
        with torch.no_grad():
            self.ema.load_state_dict(checkpoint.tensors)
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(checkpoint.tensors[f"weight.{name}"])
                saved_state = {
                    key: checkpoint.tensors[f"{key}.{name}"] for key in STATE_KEYS if f"{key}.{name}" in checkpoint.tensors
                }
                self.optimizer.state[parameter] = {
                    key: self.on_optimizer_device(key, value, parameter) for key, value in saved_state.items()
                }
        scaled = {key: checkpoint.tensors.get(f"scaler.{key}") for key in self.scaler.state_dict()}
        self.scaler.load_state_dict({key: value.item() for key, value in scaled.items() if value is not None})
        return checkpoint.step

    def on_optimizer_device(self, key: str, value: Tensor, parameter: nn.Parameter) -> Tensor | int:
        """As the optimizer keeps it: moments beside the parameter; AdamW's step on the CPU, that of eight bits a number."""
        if key == "step":
            return value if self.schedule.optimizer != "adamw-8bit" else int(value)
        return value.to(parameter.device)


def _trainable_parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        for inner, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield f"{name}.{inner}", parameter
