"""Read untrusted safetensors files: the header is validated, and all numbers must be finite."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.files.reading import MAX_TENSOR_FILE_BYTES, UnreadableError, open_regular, parse_json

if TYPE_CHECKING:
    from torch import Tensor


MAX_HEADER_BYTES = 16 << 20  # SDXL's UNet has 0.2 MB
MAX_AXES, MAX_AXIS_SIZE = 16, 1 << 40
# fmt: off
DTYPE_BITS = {  # of each dtype of the format
    "C128": 128, "C64": 64, "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64,
    "U32": 32, "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
}
# fmt: on
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
    """Metadata and tensor infos by name from a safetensors header; no tensor is read. Raises as `open_regular`.

    The tensors fill the file without gaps, each with the bytes that its dtype and shape need.
    """
    # The header: its length, then JSON.
    with open_regular(path, max_bytes) as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _damaged("it does not begin with a header")
        try:
            header = parse_json(file.read(length).decode())
        except (UnicodeDecodeError, UnreadableError) as problem:
            raise _damaged(f"its header {problem}") from problem
    if not isinstance(header, dict):
        raise _damaged("its header is no table")

    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged("its metadata are not texts")

    # The tensors, one after the other up to the end of the file.
    entries = [_parse_entry(name, entry) for name, entry in header.items()]
    end = 0
    for _, _, first, last in sorted(entries, key=lambda place: place[2:]):
        if first != end:
            raise _damaged("its tensors do not lie one after the other")
        end = last
    if end != size - 8 - length:
        raise _damaged(f"its header is of {end} bytes of numbers, and it has {size - 8 - length}")
    return metadata, {name: tensor for name, tensor, _, _ in entries}


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


def _parse_entry(name: str, entry: Any) -> tuple[str, TensorInfo, int, int]:
    """Name, info, start and end of a tensor."""
    fields = entry if isinstance(entry, dict) else {}
    dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise _damaged(f"it has {name} of the type {str(dtype)[:20]}")
    axes: list[Any] = shape if isinstance(shape, list) else [None]
    if len(axes) > MAX_AXES or not all(type(axis) is int and 0 <= axis <= MAX_AXIS_SIZE for axis in axes):
        raise _damaged(f"it has {name} of a shape that nothing has")
    first, last = offsets if isinstance(offsets, list) and len(offsets) == 2 else (None, None)
    tensor = TensorInfo(dtype, tuple(axes))
    if type(first) is not int or type(last) is not int or 8 * (last - first) != tensor.numel * DTYPE_BITS[dtype]:
        raise _damaged(f"it has {name} in other bytes than its shape says")
    return name, tensor, first, last


def _damaged(problem: object) -> UnreadableError:
    return UnreadableError(f"is damaged or not safetensors ({problem})")
