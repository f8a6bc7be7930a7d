"""Weights in 8 and 4 bits: how far they are from float32, and what a layer that has them computes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from diffusers import Flux2Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from tenth.core.errors import ModelError
from tenth.models.memory.quantized import NF4, Bits, QuantizedLinear, is_quantizable, quantize, quantized_bytes

# Root mean square of the difference over that of the value, normal weights: of the weights, and of what a layer computes.
ERRORS: dict[Bits, float] = {8: 0.0085, 4: 0.095}


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).square().mean().sqrt() / expected.double().square().mean().sqrt())


def random_layer(inputs: int = 512, outputs: int = 256, dtype: torch.dtype = torch.float32) -> nn.Linear:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Linear(inputs, outputs, dtype=dtype).requires_grad_(False)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("bits", ERRORS)
def test_the_error_against_float32(bits: Bits) -> None:
    weight, x = normal(256, 512, seed=0) * torch.logspace(-2, 1, 256)[:, None], normal(64, 512)
    layer = QuantizedLinear(weight, None, bits)
    for found, expected in ((layer.dequantized(), weight), (layer(x), x @ weight.T)):
        for channel in (0, 255):  # a channel of small weights is as near as one of large ones
            row = (
                (found[channel], expected[channel])
                if found.shape == weight.shape
                else (found[:, channel], expected[:, channel])
            )
            assert ERRORS[bits] / 2 < relative_error(*row) < ERRORS[bits] * 1.15
        assert relative_error(found, expected) < ERRORS[bits]
    assert torch.equal(layer(x), layer(x))
    assert torch.allclose(x @ layer.dequantized().T, layer(x), atol=1e-3)


@pytest.mark.parametrize("bits", ERRORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bias_type_and_bytes(bits: Bits, dtype: torch.dtype) -> None:
    layer = random_layer(dtype=torch.bfloat16)
    made = QuantizedLinear(layer.weight, layer.bias, bits)
    x = normal(2, 3, 512).to(dtype)
    assert made(x).dtype == dtype
    assert relative_error(made(x), layer.float()(x.float())) < ERRORS[bits] + 0.01
    held = made.codes.nbytes + made.scales.nbytes
    assert held == pytest.approx(quantized_bytes(layer.weight.numel(), bits), rel=0.02)
    assert not [value for value in made.state_dict().values() if value.shape == (256, 2)]


def test_the_values_of_four_bits_are_met_exactly() -> None:
    weight = torch.tensor(NF4).repeat(4)[None].repeat(3, 1) * torch.tensor([[0.5], [2.0], [8.0]])  # (3, 64)
    assert torch.equal(QuantizedLinear(weight, None, 4).dequantized(), weight)
    odd = torch.tensor([[1.0, -1.0, 0.0, 1.0, -1.0, 0.0]])  # a row that 64 does not divide
    assert torch.equal(QuantizedLinear(odd, None, 4).dequantized(), odd)
    for bits in ERRORS:
        assert torch.equal(QuantizedLinear(torch.zeros(2, 64), None, bits).dequantized(), torch.zeros(2, 64))
    with pytest.raises(ValueError, match="3 inputs"):
        QuantizedLinear(torch.ones(2, 3), None, 4)


def toy_transformer() -> Flux2Transformer2DModel:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Flux2Transformer2DModel(
            in_channels=8, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=24, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
        ).eval()  # fmt: skip


def predicted(transformer: Flux2Transformer2DModel) -> Tensor:
    ids = torch.cartesian_prod(torch.arange(1), torch.arange(4), torch.arange(4), torch.arange(1))
    with torch.no_grad():
        found: Tensor = transformer(
            normal(1, 16, 8), normal(1, 5, 24, seed=2), torch.tensor([0.5]), ids, torch.zeros(5, 4, dtype=ids.dtype)
        ).sample
    return found


@pytest.mark.parametrize("bits", ERRORS)
def test_the_layers_of_a_transformer(bits: Bits) -> None:
    transformer = toy_transformer()
    expected, names = predicted(transformer), [name for name, _ in transformer.named_parameters()]
    quantizable = {name for name, value in transformer.named_parameters() if is_quantizable(name, value.shape)}
    quantize(transformer, bits)
    made = {f"{name}.weight" for name, layer in transformer.named_modules() if isinstance(layer, QuantizedLinear)}
    assert made == quantizable == {name for name in names if "blocks" in name and "norm" not in name}
    assert relative_error(predicted(transformer), expected) < ERRORS[bits] * 2
    assert transformer.dtype == torch.float32
    quantize(transformer, 4)
    assert {layer.bits for layer in transformer.modules() if isinstance(layer, QuantizedLinear)} == {4}
    assert relative_error(predicted(transformer), expected) < ERRORS[4] * 2


def test_which_weights_are_quantized() -> None:
    for name in ("layers.0.attention.to_q.weight", "model.layers.3.mlp.up_proj.weight", "blocks.1.norm1.linear.weight"):
        assert is_quantizable(name, (8, 8))
    for name in (
        "x_embedder.weight",
        "time_embed.0.linear.weight",
        "lm_head.weight",
        "blocks.1.bias",
        "visual.blocks.0.q.weight",
    ):
        assert not is_quantizable(name, (8, 8))
    assert not is_quantizable("blocks.0.q.weight", (8, 7))
    assert not is_quantizable("blocks.0.norm.weight", (8,))


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with bitsandbytes' names, as it is not installed everywhere."""

    class Layer(nn.Linear):
        def __init__(self, inputs: int, outputs: int, bias: bool, **settings: object) -> None:
            super().__init__(inputs, outputs, bias)
            self.settings = settings

    def weight(data: Tensor, requires_grad: bool, **_: object) -> nn.Parameter:
        return nn.Parameter(data, requires_grad)

    layers = SimpleNamespace(Linear8bitLt=Layer, Linear4bit=Layer, Int8Params=weight, Params4bit=weight)
    package = SimpleNamespace(nn=layers, __spec__=SimpleNamespace(name="bitsandbytes"))
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", ERRORS)
def test_a_gpu_gets_the_layers_of_bitsandbytes(bits: Bits, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    transformer = toy_transformer()
    expected = predicted(transformer)
    quantize(transformer, bits, "cuda")
    layer = transformer.transformer_blocks[0].attn.to_q
    assert layer.settings == (
        {"has_fp16_weights": False} if bits == 8 else {"compute_dtype": torch.float32, "quant_type": "nf4"}
    )
    assert not layer.weight.requires_grad
    assert torch.equal(predicted(transformer), expected)
    quantize(on_cpu := toy_transformer(), bits)
    assert isinstance(on_cpu.transformer_blocks[0].attn.to_q, QuantizedLinear)


def test_a_package_that_does_not_work_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch)
    monkeypatch.delattr(sys.modules["bitsandbytes"], "nn")
    with pytest.raises(ModelError, match=r"does not work here .*tenth\[eight-bit\].*Install it again"):
        quantize(toy_transformer(), 8, "cuda")


def test_sums_of_codes_stay_in_the_range_of_float16() -> None:
    layer, x = random_layer(3072, 64), 100 * normal(8, 3072)
    made = QuantizedLinear(layer.weight, None, 8)
    assert relative_error(made(x.half()), F.linear(x, layer.weight)) < ERRORS[8] + 0.01
