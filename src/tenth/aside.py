"""Weights that wait while others stand in their place: in memory, or, where there is none to spare, in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn

from tenth.encode.store import default_store
from tenth.file_writing import naming

LARGE = 2**30  # bytes of weights on the CPU from which they wait in a file


@contextmanager
def aside(weights: Sequence[nn.Parameter], large: int = LARGE) -> Iterator[None]:
    """The weights may be replaced inside; they are back to the last bit, on the device where they then are, when it ends.

    An accelerator's wait in the CPU's memory. Large ones of a CPU wait in a file of the store that has no name, so that nothing
    of it stays after a kill: beside their replacements they would fill the very memory that these are to save.
    Raises DataError, before anything is replaced, if the disk is full.
    """
    if all(weight.device.type == "cpu" for weight in weights) and sum(weight.data.nbytes for weight in weights) >= large:
        default_store().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=default_store()) as file:
            with naming(default_store()):
                for weight in weights:
                    _write(file, weight.data)
                file.seek(0)
            shapes = [(weight.shape, weight.stride(), weight.dtype) for weight in weights]
            try:
                yield
            finally:
                for weight, (shape, stride, dtype) in zip(weights, shapes, strict=True):
                    weight.data = _read(file, shape, stride, dtype).to(weight.device)
    else:
        kept = [weight.data.cpu() for weight in weights]
        try:
            yield
        finally:
            for weight, before in zip(weights, kept, strict=True):
                weight.data = before.to(weight.device)


def _write(file: IO[bytes], value: Tensor) -> None:
    """Its elements, in the order in which they lie in memory."""
    order = sorted(range(value.ndim), key=value.stride, reverse=True)
    value.permute(order).contiguous().view(-1).view(torch.uint8).numpy().tofile(file)


def _read(file: IO[bytes], shape: torch.Size, stride: Sequence[int], dtype: torch.dtype) -> Tensor:
    count = int(np.prod(shape)) * dtype.itemsize
    flat = torch.from_numpy(np.fromfile(file, np.uint8, count)).view(dtype)
    return flat.as_strided(shape, stride)
