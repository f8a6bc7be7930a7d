"""The state of a training run: parameters, their moving averages, optimizer and gradient scaler; saved and restored."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn

from tenth.core.errors import CheckpointError
from tenth.training.checkpoint import load_checkpoint, save_checkpoint
from tenth.training.distributed import micro_batches
from tenth.training.optimizer import STATE_KEYS, create_optimizer
from tenth.training.schedule import TrainingConfig, autocast_dtype


@contextmanager
def ema_weights(modules: Mapping[str, nn.Module], ema: Mapping[str, Tensor]) -> Iterator[None]:
    """Put averaged weights into their modules; the trained ones are back, bit for bit, when the block ends."""
    saved = {name: value.detach().clone() for name, value in named_parameters(modules).items() if name in ema}
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


class EMAWeights:
    """Exponential moving averages of the same parameters, by half-life in images; the first one is the training's result.

    The decay counts images and is faster at the start, so that no average is dominated by the initial weights. Source: Karras
    et al. 2022, arXiv:2206.00364, appendix F; several half-lives: Karras et al. 2024, arXiv:2312.02696.
    """

    def __init__(self, names: Sequence[str], parameters: Sequence[Tensor], half_lives: Sequence[int]) -> None:
        self.names, self.parameters = names, parameters
        self.ema = {each: [parameter.detach().clone() for parameter in parameters] for each in half_lives}

    @torch.no_grad()
    def update(self, images_seen: int, batch_size: int) -> None:
        """Average in the parameters after `images_seen` images, `batch_size` more than at the last update."""
        for half_life, mean in self.ema.items():
            decay = 0.5 ** (batch_size / min(half_life, max(1.0, 0.05 * images_seen)))
            torch._foreach_lerp_(mean, list(self.parameters), 1 - decay)

    @property
    def primary(self) -> dict[str, Tensor]:
        """The first average, by the parameters' names."""
        return dict(zip(self.names, next(iter(self.ema.values())), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """All averages, as a checkpoint holds them."""
        keyed_averages = zip(ema_keys(list(self.ema)), self.ema.values(), strict=True)
        return {f"{key}.{name}": value for key, mean in keyed_averages for name, value in zip(self.names, mean, strict=True)}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave. An average that is not in `tensors` starts as a copy of the first."""
        first, *_ = names = ema_keys(list(self.ema))
        for key, mean in zip(names, self.ema.values(), strict=True):
            for name, value in zip(self.names, mean, strict=True):
                value.copy_(tensors.get(f"{key}.{name}", tensors[f"{first}.{name}"]))


def ema_keys(half_lives: Sequence[int]) -> list[str]:
    """The prefix of each average's tensors in a checkpoint."""
    return ["average", *(f"average-{each}" for each in half_lives[1:])]


def tensors_under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors "PREFIX.NAME" by NAME: one average of a checkpoint, or one module of an average."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items() if name.startswith(f"{prefix}.")}


class TrainState:
    """Trainable parameters, their moving averages, optimizer and gradient scaler, on this process's device."""

    def __init__(self, modules: Mapping[str, nn.Module], schedule: TrainingConfig, distributed: PartialState) -> None:
        for module in modules.values():
            module.to(distributed.device)
        self.schedule, self.distributed = schedule, distributed
        self.precision = autocast_dtype(schedule.precision, distributed.device)
        trained = {name: value for name, value in named_parameters(modules).items() if value.requires_grad}
        self.names, self.parameters = list(trained), list(trained.values())
        self.micro_batches = micro_batches(schedule, distributed.num_processes, distributed.process_index)
        if distributed.num_processes > 1:
            for parameter in self.parameters:
                torch.distributed.broadcast(parameter.data, 0)
        self.ema = EMAWeights(self.names, self.parameters, (schedule.ema_halflife_images, *schedule.extra_ema_halflives_images))
        layers = [layer for module in modules.values() for layer in module.modules()]
        embedding_weights = {layer.weight for layer in layers if isinstance(layer, nn.Embedding)}
        rates = schedule.learning_rate, schedule.weight_decay
        self.optimizer = create_optimizer(schedule.optimizer, self.parameters, *rates, embedding_weights)
        self.scaler = torch.amp.GradScaler(distributed.device.type, enabled=schedule.precision == "fp16")

    def all_reduce_mean(self, value: Tensor) -> None:
        """Average `value` and all gradients over the processes, in place."""
        if self.distributed.num_processes > 1:
            # Weights that some process used and others did not: there their gradient is zero. Where none did, it stays None.
            used = torch.tensor([parameter.grad is not None for parameter in self.parameters], dtype=value.dtype)
            used = used.to(value.device)
            torch.distributed.all_reduce(used)
            for parameter, count in zip(self.parameters, used.tolist(), strict=True):
                if count and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)

            # One tensor for all of them.
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
        """Resume from the newest undamaged checkpoint; its step or 0. Raises CheckpointError for other parameters."""
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
                state: dict[str, Any] = {
                    key: tensors[f"{key}.{name}"].to(parameter.device) for key in STATE_KEYS if f"{key}.{name}" in tensors
                }
                if "step" in state:  # a number of 8-bit AdamW, and of AdamW one on the CPU
                    state["step"] = int(state["step"]) if self.schedule.optimizer == "adamw-8bit" else state["step"].cpu()
                self.optimizer.state[parameter] = state
        scaler_keys = [key for key in self.scaler.state_dict() if f"scaler.{key}" in tensors]
        self.scaler.load_state_dict({key: tensors[f"scaler.{key}"].item() for key in scaler_keys})
        return checkpoint.step
