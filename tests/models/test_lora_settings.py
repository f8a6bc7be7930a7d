"""LoRA files as PEFT and diffusers themselves write them, with PEFT's settings in the file or beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tenth.core.errors import ModelError
from tenth.models.adapters.lora_file import load_lora
from tenth.models.adapters.lora_names import PARTS, canonical_name
from tenth.models.pipelines import load_pipeline
from toy_lora import (
    CONVOLUTION,
    QUERY,
    Tensors,
    all_tensors,
    assert_added,
)


def saved_by_peft(model: Any, folder: Path, **settings: Any) -> Tensors:
    """PEFT teaches a network at random, saves what it learnt by itself, and says how the weights differ then."""
    from peft import LoraConfig, get_peft_model

    before = {name: value.clone() for name, value in model.state_dict().items()}
    taught = get_peft_model(model, LoraConfig(r=4, lora_alpha=3, init_lora_weights=False, **settings))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in taught.named_parameters():
            if "magnitude" in name:
                value.mul_(1 + 0.5 * torch.rand(value.shape, generator=generator))
    taught.save_pretrained(folder)
    merged = taught.merge_and_unload().state_dict()
    changes = {name.removesuffix(".weight"): merged[name] - value for name, value in before.items()}
    return {name: change for name, change in changes.items() if change.abs().max() > 0}


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"rank_pattern": {"attn2.to_k": 2}, "alpha_pattern": {"attn1.to_q": 7, "^" + CONVOLUTION: 1}},
        {"use_rslora": True},
        {"use_dora": True},
    ],
)
def test_peft_s_own_files_say_the_same_as_peft(settings: dict[str, Any], sd15_folder: Path, tmp_path: Path) -> None:
    plain, layers = load_pipeline(sd15_folder), ["to_q", "to_k", "ff.net.2", "conv1"]
    wanted = saved_by_peft(load_pipeline(sd15_folder).unet, tmp_path, target_modules=layers, **settings)
    assert len(wanted) > 10
    found = load_pipeline(sd15_folder, lora=tmp_path / "adapter_model.safetensors")
    assert_added(all_tensors(plain), found, {f"unet.{name}": change for name, change in wanted.items()})


def test_peft_s_own_file_of_a_text_encoder(sd15_folder: Path, sdxl_folder: Path, tmp_path: Path) -> None:
    plain = load_pipeline(sd15_folder)
    patterns = {"alpha_pattern": {"encoder.layers.1.self_attn.q_proj": 9}}
    wanted = saved_by_peft(load_pipeline(sd15_folder).text_encoder, tmp_path, target_modules=["q_proj", "fc1"], **patterns)
    path = tmp_path / "adapter_model.safetensors"
    changes = {canonical_name(f"text_encoder.{name}"): change for name, change in wanted.items()}
    assert_added(all_tensors(plain), load_pipeline(sd15_folder, lora=path), changes)
    with pytest.raises(ModelError, match="does not say which text encoder it is for: base_model"):
        load_pipeline(sdxl_folder, lora=path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "adapter_config.json, which has its alpha, is not beside it"),
        ("[]", "that are no tables"),
        ("{", "has a adapter_config.json beside it that is not JSON"),
        ("{}", "lora_alpha or alpha_pattern has no number"),
        ('{"lora_alpha": true}', "lora_alpha or alpha_pattern has no number"),
        ('{"lora_alpha": 8, "alpha_pattern": {"a": "b"}}', "lora_alpha or alpha_pattern has no number"),
        ('{"lora_alpha": 8, "alpha_pattern": [1]}', "that are no tables"),
        ('{"lora_alpha": 8, "alpha_pattern": {"(a+)+": 1}}', r"alpha_pattern is for what is no name of a layer \(\(a\+\)\+\)"),
        ('{"lora_alpha": 8, "alpha_pattern": {"a\\nb": 1}}', "alpha_pattern is for what is no name of a layer"),
        ('{"lora_alpha": 8, "init_lora_weights": "pissa_niter_4"}', "was made with PEFT's pissa, for a base"),
    ],
)
def test_peft_s_settings_are_looked_at(settings: str | None, said: str, tmp_path: Path) -> None:
    if settings is not None:
        (tmp_path / "adapter_config.json").write_text(settings)
    names = (f"base_model.model.{QUERY}.lora_A.weight", f"base_model.model.{QUERY}.lora_B.weight")
    save_file(dict(zip(names, (torch.ones(1, 16), torch.ones(16, 1)), strict=True)), tmp_path / "lora.safetensors")
    with pytest.raises(ModelError, match=said):
        load_lora(tmp_path / "lora.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("alone", [False, True])
def test_diffusers_own_files_with_their_settings(alone: bool, any_folder: Path, tmp_path: Path) -> None:
    """Written by diffusers, with ranks and alphas that differ; compared with what PEFT's layers themselves would merge.

    alone: of a UNet by itself, whose names begin with no part.
    """
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft import LoraConfig, get_peft_model_state_dict

    plain, taught = load_pipeline(any_folder), load_pipeline(any_folder)
    patterns = {"rank_pattern": {"to_k": 1}, "alpha_pattern": {"to_q": 6, "q_proj": 5}}
    given: dict[str, Any] = {}
    wanted = {}
    for part in PARTS[:1] if alone else PARTS:
        module = getattr(taught, part, None)
        if module is None:
            continue
        ends = ["to_q", "to_k", "conv1"] if part == "unet" else ["q_proj", "fc2"]
        module.add_adapter(LoraConfig(r=3, lora_alpha=2, init_lora_weights=False, target_modules=ends, **patterns), "default")
        learnt = get_peft_model_state_dict(module, adapter_name="default")
        given[f"{part}_lora_layers"] = convert_state_dict_to_diffusers(learnt)
        given[f"{part}_lora_adapter_metadata"] = module.peft_config["default"].to_dict()
        for path, layer in module.named_modules():
            if hasattr(layer, "get_delta_weight"):
                wanted[canonical_name(f"{part}.{path}")] = layer.get_delta_weight("default").detach()
    if alone:
        taught.unet.save_lora_adapter(tmp_path, adapter_name="default")
    else:
        taught.save_lora_weights(tmp_path, **given)
    assert len(wanted) > 10
    found = load_pipeline(any_folder, lora=tmp_path / "pytorch_lora_weights.safetensors")
    assert_added(all_tensors(plain), found, wanted)
