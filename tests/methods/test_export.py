"""What other programs are given, and that nothing is overwritten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from tenth.cli.main import main
from tenth.core.errors import CheckpointError, IdentityError
from tenth.core.types import Identity
from tenth.methods.combined import combine_identities
from tenth.methods.export import export_lora, export_model
from tenth.methods.identity_file import save_identity
from tenth.models.pipelines import save_pipeline

LAYER = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
TEXT = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
WIDTH = 32  # of both layers in the toy model


def matrices(seed: int, *layers: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"lora_A": (2, WIDTH), "lora_B": (WIDTH, 2)}
    return {f"{at}.{side}.weight": torch.randn(*shape, generator=generator) for at in layers for side, shape in shapes.items()}


@pytest.fixture
def tuned(toy_model: Any) -> Identity:
    return Identity(
        "dreambooth-lora", toy_model.name, "", "", weights=matrices(0, LAYER, TEXT), trigger_phrase="wn person", photos=("0",)
    )


def test_a_lora_in_the_layout_of_comfyui_says_the_same(tuned: Identity, tmp_path: Path) -> None:
    export_lora(tuned, tmp_path / "lora.safetensors", "kohya")
    found = load_file(tmp_path / "lora.safetensors")
    mid = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    text = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    assert set(found) == {f"{at}.{what}" for at in (mid, text) for what in ("lora_down.weight", "lora_up.weight", "alpha")}
    assert torch.equal(found[f"{mid}.lora_down.weight"], tuned.weights[f"{LAYER}.lora_A.weight"])
    assert torch.equal(found[f"{mid}.lora_up.weight"], tuned.weights[f"{LAYER}.lora_B.weight"])
    assert float(found[f"{mid}.alpha"]) == 2
    with safe_open(tmp_path / "lora.safetensors", framework="pt") as file:
        assert file.metadata()["modelspec.trigger_phrase"] == "wn person"


def test_an_identity_by_the_names_of_transformers_5_is_put_on_and_exported_by_the_published_ones(
    tuned: Identity, toy_model: Any, tmp_path: Path
) -> None:
    """So tenth wrote them once."""
    older = replace(tuned, weights={name.replace(".text_model.", "."): tensor for name, tensor in tuned.weights.items()})
    assert older.weights.keys() != tuned.weights.keys()
    found = []
    for identity in (tuned, older):
        with toy_model.applied([identity]):
            found.append({name: value.clone() for name, value in toy_model.pipeline.text_encoder.state_dict().items()})
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    for layout in ("diffusers", "kohya"):
        export_lora(tuned, tmp_path / f"{layout}-new.safetensors", layout)
        export_lora(older, tmp_path / f"{layout}-old.safetensors", layout)
        new, old = (load_file(tmp_path / f"{layout}-{age}.safetensors") for age in ("new", "old"))
        assert new.keys() == old.keys()
        assert all(torch.equal(value, old[name]) for name, value in new.items())


def test_a_whole_model_has_the_person_in_it(tuned: Identity, toy_model: Any, toy_folder: Path, tmp_path: Path) -> None:
    weight = toy_model.pipeline.unet.get_parameter(LAYER.removeprefix("unet.") + ".weight")
    before = weight.detach().clone()
    export_model(tuned, toy_model, tmp_path / "model")
    assert torch.equal(weight, before)
    loaded = StableDiffusionPipeline.from_pretrained(tmp_path / "model", low_cpu_mem_usage=False)
    there = loaded.unet.get_parameter(LAYER.removeprefix("unet.") + ".weight")
    a, b = (tuned.weights[f"{LAYER}.lora_{side}.weight"] for side in "AB")
    torch.testing.assert_close(there, before + b @ a)
    with pytest.raises(CheckpointError, match="a new path is needed"):
        export_model(tuned, toy_model, tmp_path / "model")


def test_an_adapter_s_identity_has_no_weights_to_export(toy_model: Any, tmp_path: Path) -> None:
    plain = Identity("ip-adapter", toy_model.name, toy_model.encoder.name, toy_model.adapter_name, torch.ones(1, 128))
    with pytest.raises(IdentityError, match="low-rank matrices are needed"):
        export_lora(plain, tmp_path / "x.safetensors")
    with pytest.raises(IdentityError, match="dreambooth or dreambooth-lora"):
        export_model(plain, toy_model, tmp_path / "model")
    whole = {"unet.conv_in.weight.diff": torch.zeros(1)}
    with pytest.raises(IdentityError, match="not a low-rank matrix"):
        export_lora(Identity("dreambooth", toy_model.name, "", "", weights=whole), tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_command_line(tuned: Identity, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_identity(tuned, tmp_path / "me.safetensors")
    given = ["export", str(tmp_path / "me.safetensors"), "--model", str(toy_folder), "-o", str(tmp_path / "lora.safetensors")]
    assert main(given) == 0
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'lora.safetensors'}\n"
    assert '"wn person"' in said.err
    assert set(load_file(tmp_path / "lora.safetensors")) == set(tuned.weights)
    assert main(given) == 1
    assert "Choose another -o" in capsys.readouterr().err
    assert main([*given[:-1], str(tmp_path / "model"), "--layout", "kohya"]) == 2
    assert "it is of a LoRA's file, which ends in .safetensors" in " ".join(capsys.readouterr().err.split())


def test_a_folder_that_came_meanwhile_is_not_replaced(toy_model: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError):
        save_pipeline(toy_model.pipeline, tmp_path / "model")
    assert (tmp_path / "model/thesis.txt").read_text() == "years of work"


def test_weights_and_embeddings_together(tuned: Identity, toy_model: Any) -> None:
    adapted = Identity(
        "ip-adapter-avg", toy_model.name, toy_model.encoder.name, toy_model.adapter_name, torch.ones(1, 128), photos=("0", "1")
    )
    both = combine_identities(tuned, adapted)
    assert both.method == "dreambooth-lora+ip-adapter-avg"
    assert (both.trigger_phrase, both.photos) == ("wn person", ("0", "1"))
    weight = toy_model.pipeline.unet.get_parameter(LAYER.removeprefix("unet.") + ".weight")
    before = weight.detach().clone()
    with toy_model.applied([both]) as embeddings:
        assert embeddings.shape == (1, 1, 128)
        assert not torch.equal(weight, before)
        assert toy_model.pipeline.unet.encoder_hid_proj is not None
    assert torch.equal(weight, before)
    assert toy_model.pipeline.unet.encoder_hid_proj is None
    with pytest.raises(IdentityError, match="of one model"):
        combine_identities(adapted, tuned)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"unet.nowhere.lora_A.weight": torch.zeros(2, WIDTH), "unet.nowhere.lora_B.weight": torch.zeros(WIDTH, 2)}, "nowhere"),
        ({f"{LAYER}.lora_A.weight": torch.zeros(2, WIDTH)}, "without"),
        ({f"{LAYER}.weight.diff": torch.zeros(3, 3)}, rf"of shape \(3, 3\), where the model's is \({WIDTH}, {WIDTH}\)"),
        ({"vae.decoder.weight.diff": torch.zeros(3)}, "vae.decoder"),
        ({f"{LAYER}.hada.weight": torch.zeros(3)}, "hada"),
    ],
)
def test_weights_of_another_model_are_refused(weights: dict[str, torch.Tensor], said: str, toy_model: Any) -> None:
    odd = Identity("dreambooth", toy_model.name, "", "", weights=weights)
    with pytest.raises(IdentityError, match=said), toy_model.applied([odd]):
        pass


def test_two_people_s_weights_are_not_put_on_together(tuned: Identity, toy_model: Any) -> None:
    other = Identity("dreambooth-lora", toy_model.name, "", "", weights=matrices(1, LAYER))
    with pytest.raises(IdentityError, match="one is on the model at a time"), toy_model.applied([tuned, other]):
        pass
