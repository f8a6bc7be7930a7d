"""The state of a training run: parameters, their moving averages, optimizer and gradient scaler; saved and restored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
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
    """Put averaged weights into their modules; the trained ones are back, bit for bit, when the block ends."""
    parameters = named_parameters(modules)
    saved = {name: parameters[name].detach().clone() for name in ema}
    load_weights(modules, ema)
    try:
        yield
    finally:
        load_weights(modules, saved)


@torch.no_grad()
def load_weights(modules: Mapping[str, nn.Module], ema: Mapping[str, Tensor]) -> None:
    """Copy weights by "module.parameter", as `fit` gives them, into their modules."""
    parameters = named_parameters(modules)
    for name, value in ema.items():
        parameters[name].copy_(value)


def named_parameters(modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter by "module.parameter"."""
    return {f"{name}.{inner}": value for name, module in modules.items() for inner, value in module.named_parameters()}


class TrainState:
    """Trainable parameters, their moving averages, optimizer and gradient scaler, on this process's device."""

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
        layers = [layer for module in modules.values() for layer in module.modules()]
        embedding_weights = {layer.weight for layer in layers if isinstance(layer, nn.Embedding)}
        learning_rate, weight_decay = schedule.learning_rate, schedule.weight_decay
        self.optimizer = create_optimizer(schedule.optimizer, self.parameters, learning_rate, weight_decay, embedding_weights)
        self.scaler = torch.amp.GradScaler(distributed.device.type, enabled=schedule.precision == "fp16")

    def all_reduce_mean(self, value: Tensor) -> None:
        """Average `value` and all gradients over the processes, in place."""
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
        """One step at this learning rate with clipped gradients. Returns the gradients' norm before clipping."""
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
        """Resume from the newest undamaged checkpoint. Returns its step, 0 if there is none.

        Raises CheckpointError if it holds other parameters.
        """
        checkpoint = load_checkpoint(directory)
        if checkpoint is None:
            return 0
        if self.distributed.is_main_process:
            for line in checkpoint.skipped:
                print(line, file=sys.stderr)

        # It must hold these parameters and their average.
        tensors = checkpoint.tensors
        saved = {name: tensor.shape for name, tensor in tensors.items() if name.startswith(("weight.", "average."))}
        shapes = {name: parameter.shape for name, parameter in zip(self.names, self.parameters, strict=True)}
        if saved != {f"{part}.{name}": shape for part in ("weight", "average") for name, shape in shapes.items()}:
            found = f"{directory} holds a checkpoint of other weights"
            raise CheckpointError(found, "one of this recipe is needed to go on", "Choose another directory")

        # Averages, parameters, the optimizer's state of each, and the gradient scaler.
        with torch.no_grad():
            self.ema.load_state_dict(tensors)
            for name, parameter in zip(self.names, self.parameters, strict=True):
                parameter.copy_(tensors[f"weight.{name}"])
                state = {key: tensors[f"{key}.{name}"] for key in STATE_KEYS if f"{key}.{name}" in tensors}
                self.optimizer.state[parameter] = {
                    key: self.on_optimizer_device(key, value, parameter) for key, value in state.items()
                }
        scaler_keys = [key for key in self.scaler.state_dict() if f"scaler.{key}" in tensors]
        self.scaler.load_state_dict({key: tensors[f"scaler.{key}"].item() for key in scaler_keys})
        return checkpoint.step

    def on_optimizer_device(self, key: str, value: Tensor, parameter: nn.Parameter) -> Tensor | int:
        """A value of the optimizer's state where the optimizer expects it: on the parameter's device, AdamW's step on the CPU.

        The step of 8-bit AdamW is a plain number.
        """
        if key == "step":
            return value if self.schedule.optimizer != "adamw-8bit" else int(value)
        return value.to(parameter.device)


def _trainable_parameters(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, module in modules.items():
        for inner, parameter in module.named_parameters():
            if parameter.requires_grad:
                yield f"{name}.{inner}", parameter
