"""Read untrusted safetensors files: the header is validated, and all numbers must be finite."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tenth.core.files.reading import MAX_TENSOR_FILE_BYTES, UnreadableError, open_regular

if TYPE_CHECKING:
    from torch import Tensor


MAX_HEADER_BYTES = 16 << 20  # SDXL's UNet has 0.2 MB
MAX_AXES, MAX_AXIS_SIZE = 16, 1 << 40
FLOAT_DTYPES = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True)
class TensorInfo:
    """One tensor in a safetensors header. dtype: as the format spells it, such as "F16"."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def read_header(path: str | Path, max_bytes: int = MAX_TENSOR_FILE_BYTES) -> tuple[dict[str, str], dict[str, TensorInfo]]:
    """Metadata and tensor infos by name, in the order of the file; no tensor is read. Raises as `open_regular`.

    The library refuses a file that the tensors do not fill without gaps, each with the bytes that its dtype and shape need.
    """
    from safetensors import SafetensorError, safe_open

    with open_regular(path, max_bytes) as file:
        if int.from_bytes(file.read(8), "little") > MAX_HEADER_BYTES:
            raise _damaged(f"its header is longer than {MAX_HEADER_BYTES} bytes")
    try:
        with safe_open(path, framework="np") as tensors:  # numpy: torch need not be imported
            slices = {name: tensors.get_slice(name) for name in tensors.offset_keys()}
            infos = {name: TensorInfo(each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
            metadata = dict(tensors.metadata() or {})
    except SafetensorError as problem:
        raise _damaged(problem) from problem
    for name, info in infos.items():
        if len(info.shape) > MAX_AXES or any(size > MAX_AXIS_SIZE for size in info.shape):
            raise _damaged(f"it has {name} of a shape that nothing has")
    return metadata, infos


def read_tensors(
    path: str | Path, max_bytes: int = MAX_TENSOR_FILE_BYTES, *, finite_floats: bool = True
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a safetensors file, memory-mapped. Raises as `open_regular`.

    finite_floats: raise UnreadableError unless all are finite floating-point numbers of 16 bits or more.
    """
    from safetensors import SafetensorError, safe_open

    metadata, infos = read_header(path, max_bytes)
    for name, info in infos.items() if finite_floats else ():
        if info.dtype not in FLOAT_DTYPES:
            raise UnreadableError(f"holds {name} as {info.dtype}, not as floating-point numbers ({', '.join(FLOAT_DTYPES)})")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in infos}
    except (SafetensorError, ValueError, RuntimeError, OverflowError, TypeError, AttributeError, LookupError) as problem:
        raise _damaged(problem) from problem
    if finite_floats:
        check_finite_tensors(tensors)
    return metadata, tensors


def tensor_shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by name, to compare two sets of weights."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def check_finite_tensors(tensors: Mapping[str, Tensor], *, floats_only: bool = False) -> None:
    """Raises UnreadableError unless every number is finite. Integer tensors pass, unless `floats_only`.

    Reads several GB per second, and copies only 8-bit tensors.
    """
    import torch

    for name, tensor in tensors.items():
        if floats_only and not tensor.is_floating_point():
            raise UnreadableError(f"holds {name} as {str(tensor.dtype).removeprefix('torch.')}, not as floating-point numbers")
        if tensor.is_floating_point() and tensor.element_size() == 1:  # torch cannot compare these
            tensor = tensor.float()  # noqa: PLW2901
        # NaN propagates to minimum and maximum, and infinity is one of them.
        if tensor.is_floating_point() and tensor.numel() and not torch.isfinite(torch.stack(torch.aminmax(tensor))).all():
            raise UnreadableError(f"holds {name} with a number that is not finite (NaN or infinity)")


def _damaged(problem: object) -> UnreadableError:
    return UnreadableError(f"is damaged or not safetensors ({problem})")


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256, hexadecimal, over names, types, shapes and values, in the order of the names."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
