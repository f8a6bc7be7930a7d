"""LoRA files of transformers: what they call a layer, against the tables of the published formats, and what they add."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel, QwenImageTransformer2DModel, ZImageTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import nn

from tenth.core.errors import IdentityError, ModelError
from tenth.core.types import Identity
from tenth.methods.export import export_lora
from tenth.models.adapters.lora_file import load_lora
from tenth.models.adapters.lora_layouts import to_diffusers_layout, to_kohya_layout
from tenth.models.adapters.lora_names import layer_aliases

SIZES: dict[str, Any] = {"num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 8}
# What ComfyUI looks up in a file, key by key, for one block of each kind, and which of diffusers' layers the key is for.
# Sources: ComfyUI, comfy/lora.py (model_lora_keys_unet) and comfy/utils.py (flux_to_diffusers, z_image_to_diffusers).
# fmt: off
FLUX_ATTENTION = {
    "double_blocks.1.img_attn.qkv": [f"transformer_blocks.1.attn.to_{each}" for each in "qkv"],
    "double_blocks.1.img_attn.proj": ["transformer_blocks.1.attn.to_out.0"],
    "double_blocks.1.txt_attn.qkv": [f"transformer_blocks.1.attn.add_{each}_proj" for each in "qkv"],
    "double_blocks.1.txt_attn.proj": ["transformer_blocks.1.attn.to_add_out"],
}
TABLES = {
    "flux": FLUX_ATTENTION | {
        "double_blocks.1.img_mlp.0": ["transformer_blocks.1.ff.net.0.proj"],
        "double_blocks.1.img_mlp.2": ["transformer_blocks.1.ff.net.2"],
        "double_blocks.1.txt_mlp.0": ["transformer_blocks.1.ff_context.net.0.proj"],
        "double_blocks.1.txt_mlp.2": ["transformer_blocks.1.ff_context.net.2"],
        "double_blocks.1.img_mod.lin": ["transformer_blocks.1.norm1.linear"],
        "double_blocks.1.txt_mod.lin": ["transformer_blocks.1.norm1_context.linear"],
        "single_blocks.1.linear1": [
            *(f"single_transformer_blocks.1.attn.to_{each}" for each in "qkv"), "single_transformer_blocks.1.proj_mlp"
        ],
        "single_blocks.1.linear2": ["single_transformer_blocks.1.proj_out"],
        "single_blocks.1.modulation.lin": ["single_transformer_blocks.1.norm.linear"],
        "img_in": ["x_embedder"],
        "txt_in": ["context_embedder"],
        "vector_in.out_layer": ["time_text_embed.text_embedder.linear_2"],
        "time_in.in_layer": ["time_text_embed.timestep_embedder.linear_1"],
    },
    "flux2": FLUX_ATTENTION | {
        "double_blocks.1.img_mlp.0": ["transformer_blocks.1.ff.linear_in"],
        "double_blocks.1.img_mlp.2": ["transformer_blocks.1.ff.linear_out"],
        "double_blocks.1.txt_mlp.0": ["transformer_blocks.1.ff_context.linear_in"],
        "double_blocks.1.txt_mlp.2": ["transformer_blocks.1.ff_context.linear_out"],
        "single_blocks.1.linear1": ["single_transformer_blocks.1.attn.to_qkv_mlp_proj"],
        "single_blocks.1.linear2": ["single_transformer_blocks.1.attn.to_out"],
        "img_in": ["x_embedder"],
        "txt_in": ["context_embedder"],
        "final_layer.linear": ["proj_out"],
        "time_in.in_layer": ["time_guidance_embed.timestep_embedder.linear_1"],
        "double_stream_modulation_img.lin": ["double_stream_modulation_img.linear"],
    },
    "z-image": {
        f"{block}.attention.qkv": [f"{block}.attention.to_{each}" for each in "qkv"]
        for block in ("layers.1", "context_refiner.0", "noise_refiner.0")
    } | {
        "layers.1.attention.out": ["layers.1.attention.to_out.0"],
        "layers.1.feed_forward.w1": ["layers.1.feed_forward.w1"],
        "layers.1.feed_forward.w3": ["layers.1.feed_forward.w3"],
        "layers.1.adaLN_modulation.0": ["layers.1.adaLN_modulation.0"],
        "x_embedder": ["all_x_embedder.2-1"],
        "final_layer.linear": ["all_final_layer.2-1.linear"],
    },
    "qwen-image": {
        name: [name]
        for name in (
            *(f"transformer_blocks.1.attn.{each}" for each in ("to_q", "add_v_proj", "to_out.0", "to_add_out")),
            *(f"transformer_blocks.1.{each}" for each in ("img_mlp.net.0.proj", "txt_mlp.net.2", "img_mod.1")),
        )
    },
}
# fmt: on


def flux2() -> Flux2Transformer2DModel:
    more = {"timestep_guidance_channels": 16, "axes_dims_rope": (4, 4, 4, 4), "guidance_embeds": False}
    return Flux2Transformer2DModel(in_channels=8, num_single_layers=2, **SIZES, **more)


MAKERS = {
    "flux": lambda: FluxTransformer2DModel(
        in_channels=8, num_single_layers=2, pooled_projection_dim=8, axes_dims_rope=(4, 6, 6), **SIZES
    ),
    "flux2": flux2,
    "z-image": lambda: ZImageTransformer2DModel(
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=8,
        axes_dims=[4, 6, 6],
        axes_lens=[8, 8, 8],
    ),
    "qwen-image": lambda: QwenImageTransformer2DModel(in_channels=16, out_channels=4, axes_dims_rope=(4, 6, 6), **SIZES),
}


@pytest.fixture(scope="module", params=MAKERS)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pipeline(family: str) -> Any:
    torch.manual_seed(0)
    return SimpleNamespace(transformer=MAKERS[family]())


def layers_of(pipeline: Any) -> dict[str, torch.Tensor]:
    """Paths and weights of all linear layers."""
    modules = pipeline.transformer.named_modules()
    return {path: layer.weight.detach() for path, layer in modules if isinstance(layer, nn.Linear)}


def trained(pipeline: Any, family: str) -> dict[str, torch.Tensor]:
    """An identity's matrices for the layers of the table, of rank 2 and 3 in turn."""
    generator, weights = torch.Generator().manual_seed(1), layers_of(pipeline)
    matrices = {}
    for number, path in enumerate(path for paths in TABLES[family].values() for path in paths):
        rows, columns = weights[path].shape
        matrices[f"transformer.{path}.lora_A.weight"] = torch.randn(2 + number % 2, columns, generator=generator)
        matrices[f"transformer.{path}.lora_B.weight"] = torch.randn(rows, 2 + number % 2, generator=generator)
    return matrices


def added(pipeline: Any, file: Path) -> dict[str, torch.Tensor]:
    """What a file adds to each layer, by "transformer.path.weight"."""
    with torch.no_grad():
        return {name: each.apply(torch.zeros(each.shape)) for name, each in load_lora(file).match_layers(pipeline).items()}


def test_every_key_that_comfyui_looks_up_is_read(pipeline: Any, family: str) -> None:
    aliases = layer_aliases(pipeline)
    for native, paths in TABLES[family].items():
        layers = [tuple(f"transformer.{path}" for path in paths)]
        for key in (f"diffusion_model.{native}", f"lora_unet_{native.replace('.', '_')}"):
            assert aliases[key] == layers, key
        for path in paths:
            flat = path.replace(".", "_")
            keys = [f"transformer.{path}", f"lycoris_{flat}", f"lora_transformer_{flat}", path, f"base_model.model.{path}"]
            for key in (*keys, f"diffusion_model.{path}"):  # the last is Z-Image's own
                assert aliases[key] == [(f"transformer.{path}",)], key


def test_every_linear_layer_has_its_name_in_diffusers_and_no_name_means_two(pipeline: Any) -> None:
    aliases = layer_aliases(pipeline)
    assert all(aliases[f"transformer.{path}"] == [(f"transformer.{path}",)] for path in layers_of(pipeline))
    assert all(len(meant) == 1 for meant in aliases.values())


def test_an_export_has_the_published_keys_and_adds_the_same(pipeline: Any, family: str, tmp_path: Path) -> None:
    weights = trained(pipeline, family)
    keys = {f"lora_unet_{native.replace('.', '_')}" for native in TABLES[family]}
    assert set(to_kohya_layout(weights)) == {
        f"{key}.{end}" for key in keys for end in ("lora_down.weight", "lora_up.weight", "alpha")
    }
    assert set(to_diffusers_layout(weights)) == weights.keys()
    identity = Identity("dreambooth-lora", "m", "", "", weights=weights, trigger_phrase="zwx person")
    products = {
        name.replace("lora_A.", ""): weights[name.replace("_A", "_B")] @ weights[name] for name in weights if "_A" in name
    }
    for layout in ("diffusers", "kohya"):
        export_lora(identity, tmp_path / f"{layout}.safetensors", layout)
        changes = added(pipeline, tmp_path / f"{layout}.safetensors")
        assert changes.keys() == products.keys()
        for name, change in changes.items():
            torch.testing.assert_close(change, products[name], rtol=1e-5, atol=1e-5)


def test_magnitudes_of_a_layer_of_several_are_those_of_their_rows(tmp_path: Path) -> None:
    """DoRA of a fused layer: lengths of rows go to the layers that the rows are; of columns, they belong to no one of them."""
    pipeline = SimpleNamespace(transformer=flux2())
    generator, key = torch.Generator().manual_seed(0), "diffusion_model.double_blocks.0.img_attn.qkv"
    rows = torch.rand(96, 1, generator=generator) + 1
    tensors = {f"{key}.lora_down.weight": torch.randn(2, 32, generator=generator), f"{key}.lora_up.weight": torch.randn(96, 2)}
    save_file(tensors | {f"{key}.dora_scale": rows}, tmp_path / "rows.safetensors")
    layers = load_lora(tmp_path / "rows.safetensors").match_layers(pipeline)
    weights = layers_of(pipeline)
    for place, name in enumerate("qkv"):
        path = f"transformer_blocks.0.attn.to_{name}"
        now = layers[f"transformer.{path}.weight"].apply(weights[path])
        torch.testing.assert_close(now.norm(dim=1), rows[32 * place : 32 * (place + 1), 0])
    save_file(tensors | {f"{key}.dora_scale": torch.ones(1, 32)}, tmp_path / "columns.safetensors")
    with pytest.raises(ModelError, match="magnitudes of columns, which are those of several layers together"):
        load_lora(tmp_path / "columns.safetensors").match_layers(pipeline)


def test_files_that_fit_no_layer_are_refused(tmp_path: Path) -> None:
    pipeline = SimpleNamespace(transformer=flux2())
    key = "lora_unet_double_blocks_0_img_attn_qkv"
    save_file(
        {f"{key}.lora_down.weight": torch.ones(1, 32), f"{key}.lora_up.weight": torch.ones(64, 1)}, tmp_path / "a.safetensors"
    )
    with pytest.raises(ModelError, match=r"for a weight of \(64, 32\), where the model's is \(96, 32\)"):
        load_lora(tmp_path / "a.safetensors").match_layers(pipeline)
    twice = {"transformer.transformer_blocks.0.attn.to_q": 32, "diffusion_model.double_blocks.0.img_attn.qkv": 96}
    tensors = {f"{name}.lora_A.weight": torch.ones(1, 32) for name in twice}
    tensors |= {f"{name}.lora_B.weight": torch.ones(rows, 1) for name, rows in twice.items()}
    save_file(tensors, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="twice, under two names"):
        load_lora(tmp_path / "b.safetensors").match_layers(pipeline)


def test_kohya_s_layout_needs_all_parts_of_a_layer_and_one_family() -> None:
    def matrices(*paths: str) -> dict[str, torch.Tensor]:
        return {f"transformer.{path}.lora_{side}.weight": torch.ones(1, 1) for path in paths for side in "AB"}

    single, query = "single_transformer_blocks.0.attn.to_qkv_mlp_proj", "transformer_blocks.0.attn.to_q"
    with pytest.raises(IdentityError, match=r"of which transformer_blocks\.0\.attn\.to_k was not trained.*--layout diffusers"):
        to_kohya_layout(matrices(single, query))
    with pytest.raises(IdentityError, match="could be of several families"):
        to_kohya_layout(matrices(query))
    assert "lora_unet_blocks_0_new.alpha" in to_kohya_layout(matrices("blocks.0.new"))  # of a family that has no table


def test_an_exported_file_says_how_the_person_is_called(tmp_path: Path) -> None:
    pipeline = SimpleNamespace(transformer=flux2())
    identity = Identity("dreambooth-lora", "m", "", "", weights=trained(pipeline, "flux2"), trigger_phrase="zwx person")
    export_lora(identity, tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors").keys() == identity.weights.keys()
