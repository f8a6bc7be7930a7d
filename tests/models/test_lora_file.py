"""What a LoRA's file adds to each layer, against what it says, and what others read in ours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from tenth.core.types import Identity
from tenth.methods.export import export_lora
from tenth.models.adapters.lora_file import load_lora
from tenth.models.adapters.lora_names import PARTS
from tenth.models.adapters.weight_deltas import applied_weights
from tenth.models.pipelines import load_pipeline
from tenth.models.registry import load_model
from toy_lora import (
    CONVOLUTION,
    QUERY,
    TEXT,
    all_tensors,
    assert_added,
    layers_of,
    lora_pair,
    merged_delta,
    random_matrices,
)


def kohya(name: str, pipeline: Any) -> str:
    part, _, path = name.partition(".")
    two = getattr(pipeline, "text_encoder_2", None) is not None
    beginning = {"unet": "lora_unet", "text_encoder": "lora_te1" if two else "lora_te", "text_encoder_2": "lora_te2"}[part]
    return f"{beginning}_{path.replace('.', '_')}"


def test_every_layer_has_its_own_rank_and_alpha(any_folder: Path, tmp_path: Path) -> None:
    plain, generator = load_pipeline(any_folder), torch.Generator().manual_seed(1)
    tensors, wanted = {}, {}
    for number, (name, weight) in enumerate(layers_of(plain)):
        rank, alpha = 1 + number % 4, (0.5, 1.0, 8.0, 3.0, 2.0)[number % 5]
        down, up = random_matrices(weight, rank, generator)
        key = kohya(name, plain)
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(alpha)}
        if number % 7 == 0:  # alpha is the rank
            del tensors[f"{key}.alpha"]
            alpha = rank
        wanted[name] = alpha / rank * merged_delta(down, up)
    assert {name.partition(".")[0] for name in wanted} == {part for part in PARTS if getattr(plain, part, None) is not None}
    save_file(tensors, tmp_path / "lora.safetensors")
    assert_added(all_tensors(plain), load_pipeline(any_folder, lora=tmp_path / "lora.safetensors"), wanted)


def test_a_model_with_a_lora_is_another_model(sd15_folder: Path, tmp_path: Path) -> None:
    save_file(
        {f"unet.{QUERY}.lora_A.weight": torch.ones(1, 16), f"unet.{QUERY}.lora_B.weight": torch.ones(16, 1)},
        tmp_path / "a.safetensors",
    )
    plain, other = load_model(str(sd15_folder)), load_model(str(sd15_folder), lora=tmp_path / "a.safetensors")
    weights = [model.pipeline.unet.get_parameter(f"{QUERY}.weight") for model in (plain, other)]
    torch.testing.assert_close(weights[1] - weights[0], torch.ones(16, 16))
    assert other.name.startswith("model+a@")


NAMES: dict[str, Callable[[str], tuple[str, str]]] = {
    "diffusers": lambda path: (f"{path}.lora_A.weight", f"{path}.lora_B.weight"),
    "diffusers before PEFT": lambda path: (f"{path}.lora.down.weight", f"{path}.lora.up.weight"),
    "diffusers, text": lambda path: (f"{path}.lora_linear_layer.down.weight", f"{path}.lora_linear_layer.up.weight"),
    "kohya": lambda path: (f"{path}.lora_down.weight", f"{path}.lora_up.weight"),
    "processors": lambda path: (f"{path}_lora.down.weight", f"{path}_lora.up.weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "said", "name"),
    [
        ("diffusers", f"unet.{QUERY}", f"unet.{QUERY}"),
        ("diffusers", QUERY, f"unet.{QUERY}"),
        ("diffusers", f"text_encoder.{TEXT}", f"text_encoder.{TEXT}"),
        ("diffusers before PEFT", f"unet.{QUERY}", f"unet.{QUERY}"),
        ("diffusers, text", f"text_encoder.{TEXT}", f"text_encoder.{TEXT}"),
        ("processors", f"unet.{QUERY.replace('.to_q', '.processor.to_q')}", f"unet.{QUERY}"),
        ("processors", QUERY.replace(".to_q", ".processor.to_q"), f"unet.{QUERY}"),
        ("processors", f"unet.{QUERY.replace('.to_q', '.processor.to_out')}", f"unet.{QUERY.replace('.to_q', '.to_out.0')}"),
        ("processors", f"text_encoder.{TEXT.replace('.v_proj', '.to_v')}", f"text_encoder.{TEXT}"),
        ("kohya", f"lora_te_{TEXT.replace('.', '_')}", f"text_encoder.{TEXT}"),
        ("kohya", "lora_unet_input_blocks_1_0_in_layers_2", f"unet.{CONVOLUTION}"),
    ],
)
def test_layouts_are_read(layout: str, said: str, name: str, sd15_folder: Path, tmp_path: Path) -> None:
    """Some files hold one text encoder's matrices and nothing else. Without an alpha, the product counts once."""
    plain = load_pipeline(sd15_folder)
    down, up = random_matrices(dict(layers_of(plain))[name], 3, torch.Generator().manual_seed(0))
    save_file(dict(zip(NAMES[layout](said), (down, up), strict=True)), tmp_path / "lora.safetensors")
    assert_added(
        all_tensors(plain), load_pipeline(sd15_folder, lora=tmp_path / "lora.safetensors"), {name: merged_delta(down, up)}
    )


@pytest.mark.parametrize("by", ["rows", "columns", "flat"])
@pytest.mark.parametrize("name", [QUERY, CONVOLUTION])
def test_dora_gives_the_rows_or_columns_of_the_sum_their_length(name: str, by: str, sd15_folder: Path, tmp_path: Path) -> None:
    plain, generator = load_pipeline(sd15_folder), torch.Generator().manual_seed(0)
    weight = dict(layers_of(plain))[f"unet.{name}"]
    down, up = random_matrices(weight, 2, generator)
    rows, columns, *kernel = weight.shape
    ones = [1] * len(kernel)
    shape = {"rows": (rows, 1, *ones), "columns": (1, columns, *ones), "flat": (rows,)}[by]
    lengths = torch.rand(shape, generator=generator) + 1
    key = f"lora_unet_{name.replace('.', '_')}"
    tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(3)}
    save_file(tensors | {f"{key}.dora_scale": lengths}, tmp_path / "lora.safetensors")
    whole = weight + 1.5 * merged_delta(down, up)
    if by == "columns":
        now = whole.transpose(0, 1).flatten(1).norm(dim=1).view(1, columns, *ones)
    else:
        now = whole.flatten(1).norm(dim=1).view(rows, 1, *ones)
    wanted = whole / now * lengths.view(now.shape) - weight
    assert_added(all_tensors(plain), load_pipeline(sd15_folder, lora=tmp_path / "lora.safetensors"), {f"unet.{name}": wanted})


def test_a_kernel_taken_apart_in_three(sd15_folder: Path, tmp_path: Path) -> None:
    plain, generator = load_pipeline(sd15_folder), torch.Generator().manual_seed(0)
    shapes = {"lora_up": (16, 3, 1, 1), "lora_mid": (3, 3, 3, 3), "lora_down": (3, 16, 1, 1)}
    parts = {part: torch.randn(shape, generator=generator) / 5 for part, shape in shapes.items()}
    key = f"lora_unet_{CONVOLUTION.replace('.', '_')}"
    tensors = {f"{key}.{part}.weight": value for part, value in parts.items()}
    save_file(tensors | {f"{key}.alpha": torch.tensor(1.0)}, tmp_path / "lora.safetensors")
    # As three convolutions one after the other answer to each of the pixels of their field.
    pixels = torch.eye(16 * 9).view(-1, 16, 3, 3)
    answers = F.conv2d(F.conv2d(F.conv2d(pixels, parts["lora_down"]), parts["lora_mid"]), parts["lora_up"])  # (144, 16, 1, 1)
    wanted = answers.flatten(1).T.reshape(16, 16, 3, 3) / 3
    assert_added(
        all_tensors(plain), load_pipeline(sd15_folder, lora=tmp_path / "lora.safetensors"), {f"unet.{CONVOLUTION}": wanted}
    )


def test_weights_of_16_bits_are_rounded_once(sd15_folder: Path, tmp_path: Path) -> None:
    """And matrices may be of 16 bits, as in most files."""
    generator = torch.Generator().manual_seed(0)
    down, up = (torch.randn(shape, generator=generator).bfloat16() for shape in ((2, 16), (16, 2)))
    save_file(lora_pair(down=down, up=up), tmp_path / "lora.safetensors")
    pipeline = load_pipeline(sd15_folder)
    pipeline.unet.half()
    before = pipeline.unet.get_parameter(f"{QUERY}.weight").detach().clone()
    load_lora(tmp_path / "lora.safetensors").merge_into(pipeline)
    found = pipeline.unet.get_parameter(f"{QUERY}.weight")
    assert found.dtype == torch.float16
    assert torch.equal(found, (before.float() + up.float() @ down.float()).half())


def exported(pipeline: Any) -> Identity:
    """Somebody whom every kind of layer learnt, by the names that learning gives."""
    generator, weights = torch.Generator().manual_seed(3), {}
    for name, weight in layers_of(pipeline):
        if name.endswith((".to_q", ".to_out.0", ".conv1", ".q_proj", ".out_proj", ".fc1")):
            down, up = random_matrices(weight, 2, generator)
            weights |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return Identity("dreambooth-lora", "model", "", "", weights=weights, trigger_phrase="wn person")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_what_is_exported_says_the_same_here_and_in_diffusers(layout: str, any_folder: Path, tmp_path: Path) -> None:
    """Here to the last bit; in diffusers, by its own loader, to 1e-5."""
    pipeline = load_pipeline(any_folder)
    identity, before = exported(pipeline), all_tensors(pipeline)
    assert {name.partition(".")[0] for name in identity.weights} == {part for part in PARTS if getattr(pipeline, part, None)}
    with applied_weights(pipeline, identity.weights):
        wanted = all_tensors(pipeline)
    assert all(torch.equal(value, before[name]) for name, value in all_tensors(pipeline).items())
    export_lora(identity, tmp_path / "lora.safetensors", layout)
    ours = all_tensors(load_pipeline(any_folder, lora=tmp_path / "lora.safetensors"))
    assert all(torch.equal(value, wanted[name]) for name, value in ours.items())
    theirs = load_pipeline(any_folder)
    theirs.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    theirs.fuse_lora()
    theirs.unload_lora_weights()
    found = all_tensors(theirs)
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-5)
        assert torch.equal(value, before[name]) == torch.equal(wanted[name], before[name])


def test_a_fine_tuned_person_goes_by_published_names(sdxl_folder: Path) -> None:
    from tenth.methods.dreambooth.lora import LoraSettings, trainable

    pipeline = load_pipeline(sdxl_folder)
    for lora, end in ((LoraSettings(rank=1), "lora_B.weight"), (None, "weight.diff")):
        with trainable(pipeline, lora, text_encoder=True) as learners:
            average = {
                f"{part}.{name}": value.detach()
                for part, module in learners.modules.items()
                for name, value in module.named_parameters()
                if value.requires_grad
            }
            found = learners.extract_deltas(average)
        assert {f"{part}.{TEXT}.{end}" for part in ("text_encoder", "text_encoder_2")} <= found.keys()
        assert not [name for name in found if name.startswith("text_encoder.encoder.")]
