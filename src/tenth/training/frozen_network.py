"""A network that is frozen, or mostly: its modes, its weights in another precision or elsewhere, and back."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from tenth.core.cache import default_cache_dir
from tenth.core.files.writing import explain_os_errors


@contextmanager
def restored_modes(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Training modes and `requires_grad` of modules may change inside; they are as before when the block ends."""
    modes = [(module, module.training) for root in modules for module in root.modules()]
    gradients = [(parameter, parameter.requires_grad) for root, _ in modes for parameter in root.parameters(recurse=False)]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in gradients:
            parameter.requires_grad_(requires_grad)


@contextmanager
def cast_frozen_weights(network: nn.Module, precision: torch.dtype) -> Iterator[None]:
    """A network's frozen layers in the precision in which autocast uses them: half the memory, the same values.

    Otherwise autocast casts them in every step. Inside, the network runs only under autocast of this precision. Its weights
    are swapped out (`swapped_out`), and are back to the last bit when the block ends.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    weights = [
        weight
        for layer in layers
        for weight in layer.parameters(recurse=False)
        if not weight.requires_grad and weight.is_floating_point() and weight.dtype != precision
    ]
    with swapped_out(weights):
        for weight in weights:
            weight.data = weight.data.to(precision)
        yield


def autocast(device: torch.device, precision: torch.dtype) -> torch.autocast:
    """Autocast on a device; none in float32."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


@contextmanager
def gradient_checkpointing(network: Any, enabled: bool) -> Iterator[None]:
    """With gradient checkpointing, if enabled: activations are recomputed in the backward pass."""
    if enabled:
        network.enable_gradient_checkpointing()
    try:
        yield
    finally:
        network.disable_gradient_checkpointing()


def weights_digest(*modules: nn.Module) -> str:
    """First 16 hexadecimal digits of the sha256 over the weights of modules, in this order, for cache keys."""
    digest = hashlib.sha256()
    for module in modules:
        for key, tensor in sorted(module.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


FILE_THRESHOLD_BYTES = 2**30  # size of weights on the CPU from which they are swapped to a file


@contextmanager
def swapped_out(weights: Sequence[nn.Parameter], file_threshold: int = FILE_THRESHOLD_BYTES) -> Iterator[None]:
    """The weights may be replaced inside; they are back to the last bit, on the device where they then are, when it ends.

    Weights of an accelerator are kept in the CPU's memory. Large ones on a CPU are kept in an unnamed file in the cache folder,
    of which nothing stays after a kill: in memory, they would take the room that their replacements are to save.
    Raises DataError, before anything is replaced, if the disk is full.
    """
    on_cpu = all(weight.device.type == "cpu" for weight in weights)
    if on_cpu and sum(weight.data.nbytes for weight in weights) >= file_threshold:
        # To a file, in order, and back in the same order.
        default_cache_dir().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=default_cache_dir()) as file:
            with explain_os_errors(default_cache_dir()):
                for weight in weights:
                    _write_tensor(file, weight.data)
                file.seek(0)
            shapes = [(weight.shape, weight.stride(), weight.dtype) for weight in weights]
            try:
                yield
            finally:
                for weight, (shape, stride, dtype) in zip(weights, shapes, strict=True):
                    weight.data = _read_tensor(file, shape, stride, dtype).to(weight.device)
    else:
        saved = [weight.data.cpu() for weight in weights]
        try:
            yield
        finally:
            for weight, before in zip(weights, saved, strict=True):
                weight.data = before.to(weight.device)


def _write_tensor(file: IO[bytes], value: Tensor) -> None:
    """The elements, in the order in which they lie in memory."""
    order = sorted(range(value.ndim), key=value.stride, reverse=True)
    value.permute(order).contiguous().view(-1).view(torch.uint8).numpy().tofile(file)


def _read_tensor(file: IO[bytes], shape: torch.Size, stride: Sequence[int], dtype: torch.dtype) -> Tensor:
    count = int(np.prod(shape)) * dtype.itemsize
    flat = torch.from_numpy(np.fromfile(file, np.uint8, count)).view(dtype)
    return flat.as_strided(shape, stride)
