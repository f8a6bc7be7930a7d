"""Linear layers whose frozen weights are stored in 8 or 4 bits and dequantized one layer at a time, on any device.

8 bits: integers, one scale for each output channel (Dettmers et al. 2022, arXiv:2208.07339, without its outliers). 4 bits: NF4,
sixteen quantiles of the normal distribution, one scale for each block of weights (Dettmers et al. 2023, arXiv:2305.14314).
bitsandbytes' kernels are used in their place where that is installed and the model is on a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenth.core.errors import ModelError

Bits = Literal[8, 4]
MAX_INT8, CODES = 127, 128
BLOCK = 64  # weights that share a scale in 4 bits: arXiv:2305.14314, section 3
# Source of the numbers: arXiv:2305.14314, appendix E.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
    *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
IN_A_STACK = re.compile(r"(^|\.)\d+\.")  # the layers that repeat have a number in their name
# Small, or what the others' precision rests on. T5 casts what it gives its wo to the type of wo's weights.
KEPT = re.compile(r"embed|lm_head|vision|visual|DenseReluDense\.wo")


class QuantizedLinear(nn.Module):
    """A linear layer with frozen weights in 8 or 4 bits.

    The result has the type of the input: (..., in) -> (..., out). Raises ValueError for an odd input of 4 bits.
    """

    codes: Tensor
    scales: Tensor
    pairs: Tensor

    def __init__(self, weight: Tensor, bias: nn.Parameter | None, bits: Bits) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bits, self.bias = bits, bias
        codes, scales = quantize_int8(weight) if bits == 8 else quantize_nf4(weight)
        self.register_buffer("codes", codes)
        self.register_buffer("scales", scales)
        table = torch.tensor(NF4)
        both = torch.stack([table.repeat_interleave(16), table.repeat(16)], dim=1) if bits == 4 else torch.empty(0)
        self.register_buffer("pairs", both.to(weight.device), persistent=False)  # (256, 2): both weights of a byte

    def dequantized(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights (out, in) that the layer stands for."""
        if self.bits == 8:
            return self.codes.to(dtype) * self.scales.to(dtype)[:, None]
        values = F.embedding(self.codes.int(), self.pairs.to(dtype))  # (out, in / 2, 2)
        blocks = values.view(self.out_features, self.scales.shape[1], -1) * self.scales.to(dtype)[..., None]
        return blocks.view(self.out_features, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        # In 8 bits the scale of a channel multiplies its result: one copy of the weights fewer, and rounded once. Codes are
        # reduced to 1 first, by a power of two, which changes no bit: sums of whole codes leave the range of float16.
        if self.bits == 8:
            output = F.linear(x, self.codes.to(x.dtype).mul_(1 / CODES)) * (self.scales * CODES).to(x.dtype)
        else:
            output = F.linear(x, self.dequantized(x.dtype))
        if self.bias is not None:
            output = output + self.bias.to(x.dtype)
        return output

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.bits}"


def quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (out, in) -> int8 of the same shape, and float32 scales (out,)."""
    values = weight.detach().float()
    scales = values.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / MAX_INT8
    codes = (values / scales[:, None]).round_().clamp_(-MAX_INT8, MAX_INT8)
    return codes.to(torch.int8), scales


def quantize_nf4(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (out, in) -> uint8 (out, in / 2), two in each byte, the first one high; float32 scales (out, in / BLOCK).

    Where BLOCK does not divide the input, a row is one block. Raises ValueError for an odd input.
    """
    rows, columns = weight.shape
    if columns % 2:
        raise ValueError(f"{columns} inputs, and two weights share a byte")
    blocks = weight.detach().float().view(rows, columns // BLOCK if columns % BLOCK == 0 else 1, -1)
    scales = blocks.abs().amax(dim=2).clamp(min=torch.finfo(torch.float32).tiny)  # (out, blocks)

    # The nearest of sixteen values, by the fifteen numbers in the middle between two of them.
    table = torch.tensor(NF4, device=weight.device)
    codes = torch.bucketize((blocks / scales[..., None]).view(rows, columns), (table[1:] + table[:-1]) / 2, out_int32=True)
    codes = codes.to(torch.uint8)
    return codes[:, ::2] << 4 | codes[:, 1::2], scales


def is_quantizable(name: str, shape: Sequence[int]) -> bool:
    """Whether `quantize` changes a weight, by its name and shape in a file: the matrices of the layers that repeat."""
    path = name.removesuffix(".weight")
    repeats = IN_A_STACK.search(path) is not None and not KEPT.search(path)
    return repeats and path != name and len(shape) == 2 and shape[1] % 2 == 0


def quantize(module: nn.Module, bits: Bits, device: str = "cpu") -> None:
    """Put layers of 8 or 4 bits in the place of the linear layers that repeat, one after the other, for good.

    device: where the module will compute. With bitsandbytes installed, its layers are taken for a GPU. Layers of 8 bits become
    such of 4 bits. Raises ModelError if bitsandbytes is installed and does not work.
    """
    for name, layer in list(module.named_modules()):
        if isinstance(layer, QuantizedLinear) and layer.bits > bits:
            module.set_submodule(name, QuantizedLinear(layer.dequantized(), layer.bias, bits))
        elif isinstance(layer, nn.Linear) and is_quantizable(f"{name}.weight", layer.weight.shape):
            if device != "cpu" and find_spec("bitsandbytes") is not None:
                module.set_submodule(name, _bitsandbytes_layer(layer, bits))
            else:
                module.set_submodule(name, QuantizedLinear(layer.weight, layer.bias, bits))


def _bitsandbytes_layer(layer: nn.Linear, bits: Bits) -> nn.Module:
    """bitsandbytes' layer with these weights, which it quantizes when it is moved to the GPU."""
    try:
        layers: Any = import_module("bitsandbytes").nn
    except Exception as problem:  # whatever its native library does not find
        needed = "bitsandbytes of `pip install 'tenth[eight-bit]'` quantizes on a GPU"
        raise ModelError(
            f"bitsandbytes does not work here ({problem!s:.200})", needed, "Install it again, or remove it"
        ) from problem
    sizes, bias = (layer.in_features, layer.out_features), layer.bias is not None
    if bits == 8:
        made: Any = layers.Linear8bitLt(*sizes, bias=bias, has_fp16_weights=False)
        made.weight = layers.Int8Params(layer.weight.data, requires_grad=False, has_fp16_weights=False)
    else:
        made = layers.Linear4bit(*sizes, bias=bias, compute_dtype=layer.weight.dtype, quant_type="nf4")
        made.weight = layers.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
    if bias:
        made.bias = layer.bias
    module: nn.Module = made
    return module.requires_grad_(False)


def quantized_bytes(num_weights: int, bits: Bits) -> int:
    """Bytes of these weights, scales included, where rows are long."""
    return num_weights if bits == 8 else num_weights // 2 + 4 * num_weights // BLOCK
