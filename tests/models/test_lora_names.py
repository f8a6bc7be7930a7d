"""What a LoRA's file calls a layer, against the tables of the published formats, on networks of the published layouts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from published_names import SD15, SD15_OTHERS, SDXL, SDXL_ORIGINAL, SDXL_OTHERS
from tenth.models.adapters.lora_layouts import to_diffusers_layout, to_kohya_layout
from tenth.models.adapters.lora_names import canonical_name, layer_aliases
from tenth.models.adapters.weight_deltas import find_parameter, shapes_match

LEARNT = ("attentions.", "encoder.layers.")  # in the paths of layers that kohya's trainer teaches


@pytest.fixture(scope="module")
def sd15() -> Any:
    """The networks of Stable Diffusion 1.5, without a number in them."""
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12))
        return SimpleNamespace(unet=UNet2DConditionModel(cross_attention_dim=768), text_encoder=text)


@pytest.fixture(scope="module")
def sdxl() -> Any:
    """The networks of SDXL, without a number in them."""
    down = ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D")
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            down_block_types=down,
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            block_out_channels=(320, 640, 1280),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )
        first = CLIPTextModel(CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12))
        large = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
        second = CLIPTextModelWithProjection(CLIPTextConfig(projection_dim=1280, **large))
        return SimpleNamespace(unet=unet, text_encoder=first, text_encoder_2=second)


def learnt(pipeline: Any) -> dict[str, torch.Tensor]:
    """Matrices for every layer that is usually taught, by the module paths of the installed libraries."""
    weights = {}
    for part, module in vars(pipeline).items():
        for path, layer in module.named_modules():
            if isinstance(layer, nn.Linear | nn.Conv2d) and any(words in path for words in LEARNT):
                weights |= {f"{part}.{path}.lora_{side}.weight": torch.zeros(1, 1) for side in "AB"}
    return weights


def test_the_tables_have_as_many_layers_as_kohya_s_trainer_says() -> None:
    assert len(SD15) == 192 + 72
    assert len(SDXL) == len(SDXL_ORIGINAL) == 722 + 72 + 192
    assert set(SDXL.values()) == set(SDXL_ORIGINAL.values())


@pytest.mark.parametrize(("family", "table"), [("sd15", SD15), ("sdxl", SDXL)])
def test_exports_have_the_published_names(family: str, table: dict[str, str], request: pytest.FixtureRequest) -> None:
    weights = learnt(request.getfixturevalue(family))
    kohya = {f"{name}.{end}" for name in table for end in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert set(to_kohya_layout(weights)) == kohya
    assert set(to_diffusers_layout(weights)) == {f"{name}.lora_{side}.weight" for name in table.values() for side in "AB"}


@pytest.mark.parametrize(
    ("family", "table"),
    [("sd15", SD15), ("sd15", SD15_OTHERS), ("sdxl", SDXL), ("sdxl", SDXL_ORIGINAL), ("sdxl", SDXL_OTHERS)],
)
def test_published_names_are_read(family: str, table: dict[str, str], request: pytest.FixtureRequest) -> None:
    names = layer_aliases(request.getfixturevalue(family))
    assert {said: names.get(said) for said in table} == {said: [(name,)] for said, name in table.items()}
    assert {name: names.get(name) for name in table.values()} == {name: [(name,)] for name in table.values()}


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_older_names_are_read(family: str, request: pytest.FixtureRequest) -> None:
    """Of diffusers before it had PEFT, of PEFT itself, and of what tenth once wrote by the module paths of transformers 5."""
    names = layer_aliases(request.getfixturevalue(family))
    attention = "mid_block.attentions.0.transformer_blocks.0.attn1"
    text = "text_model.encoder.layers.3.self_attn"
    for said, name in {
        f"unet.{attention}.processor.to_q": f"unet.{attention}.to_q",
        f"{attention}.processor.to_out": f"unet.{attention}.to_out.0",
        f"base_model.model.{attention}.to_v": f"unet.{attention}.to_v",
        f"text_encoder.{text}.to_out": f"text_encoder.{text}.out_proj",
        f"text_encoder.{text}.to_k": f"text_encoder.{text}.k_proj",
        "text_encoder.encoder.layers.3.mlp.fc1": "text_encoder.text_model.encoder.layers.3.mlp.fc1",
        "lora_te_encoder_layers_3_mlp_fc1": "text_encoder.text_model.encoder.layers.3.mlp.fc1",
    }.items():
        assert names[said] == [(name,)]
    both = [(f"{part}.{text}.q_proj",) for part in ("text_encoder", "text_encoder_2")][: 1 if family == "sd15" else 2]
    assert names[f"base_model.model.{text}.q_proj"] == both


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_no_name_but_a_text_encoder_s_means_two_layers(family: str, request: pytest.FixtureRequest) -> None:
    pipeline = request.getfixturevalue(family)
    names = layer_aliases(pipeline)
    double = {said: meant for said, meant in names.items() if len(meant) > 1}
    assert all({name.partition(".")[0] for (name,) in meant} == {"text_encoder", "text_encoder_2"} for meant in double.values())
    assert bool(double) == (family == "sdxl")


def test_a_text_encoder_s_layer_is_found_with_and_without_text_model() -> None:
    layer = nn.Linear(2, 3, bias=False)
    plain = nn.ModuleDict({"encoder": nn.ModuleDict({"fc": layer})})
    nested = nn.ModuleDict({"text_model": plain})
    for module in (plain, nested):
        for name in ("text_encoder.encoder.fc.weight", "text_encoder.text_model.encoder.fc.weight"):
            assert find_parameter(SimpleNamespace(text_encoder=module), name) is layer.weight
            assert canonical_name(name) == "text_encoder.text_model.encoder.fc.weight"


def test_a_linear_layer_is_a_convolution_of_one_pixel() -> None:
    assert shapes_match(torch.Size([3, 2]), torch.Size([3, 2, 1, 1]))
    assert shapes_match(torch.Size([3, 2, 3, 3]), torch.Size([3, 2, 3, 3]))
    assert not shapes_match(torch.Size([3, 2]), torch.Size([3, 2, 3, 3]))
    assert not shapes_match(torch.Size([3, 2]), torch.Size([2, 3]))
