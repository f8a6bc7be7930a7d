"""A family's folder: what it says is checked before it is read, and nothing that it names is run or fetched."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mutations import json_mutations
from tally import Tally
from tenth.core.errors import ModelError
from tenth.models.families.loader import load_flow_model
from tenth.models.model_folder import left_out_layer
from tenth.models.registry import load_model
from toy_families import toy_family

HOSTILE_TEMPLATE = "{% for _ in range(10 ** 9) %}{{ messages }}{% endfor %}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family("flux2-klein", tmp_path_factory.mktemp("families") / "klein")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "model"))


def change(path: Path, **said: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def test_a_folder_is_loaded_by_the_class_that_its_index_names(folder: Path) -> None:
    model = load_model(str(folder))
    assert model.family.name == "flux2-klein"
    assert model.name.startswith("klein@")
    assert model.name == load_model(str(folder)).name
    assert model.native_resolution == 64
    assert (model.default_sampling.steps, model.default_sampling.guidance_scale) == (4, 1.0)
    with pytest.raises(ModelError, match=r"there is no file a\.safetensors"):
        load_model(str(folder), adapter="a.safetensors")


def test_other_weights_are_another_name(folder: Path, copy: Path) -> None:
    weights = copy / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["proj_out.weight"] += 1
    save_file(tensors, weights)
    assert load_flow_model(copy).name.partition("@")[2] != load_flow_model(folder).name.partition("@")[2]


@pytest.mark.parametrize(
    ("part", "said", "found"),
    [
        ("model_index.json", {"transformer": ["os", "system"]}, "names .* as its transformer"),
        ("model_index.json", {"text_encoder": ["a/b", "c/d"]}, "names .* as its text_encoder"),
        ("model_index.json", {"scheduler": ["diffusers", "DDIMScheduler"]}, "names .* as its scheduler"),
        ("model_index.json", {"vae": [None, None]}, "names .* as its vae"),
        ("transformer/config.json", {"num_layers": 2}, "for which its configuration asks"),
        ("transformer/config.json", {"num_layers": 0}, "for which its configuration has no place"),
        ("transformer/config.json", {"num_layers": 10**6}, "asks for .* layers"),
        ("transformer/config.json", {"joint_attention_dim": 32}, "where its configuration asks for"),
        ("transformer/config.json", {"num_attention_heads": "2"}, "cannot be read|asks for"),
        ("transformer/config.json", {"axes_dims_rope": [2, 2, 2, 2]}, "do not go together"),
        ("text_encoder/config.json", {"hidden_act": "a/b"}, "names a/b as its hidden_act"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**6}, "asks for 1000000 layers"),
        ("text_encoder/config.json", {"hidden_size": 32}, "asks for"),
        ("vae/config.json", {"block_out_channels": [4, 4, 8]}, "vae"),
        ("vae/config.json", {"batch_norm_eps": "x y"}, "names x y"),
        ("scheduler/scheduler_config.json", {"time_shift_type": "x"}, "cannot be loaded|does not step"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**8}, "as its num_train_timesteps"),
        ("scheduler/scheduler_config.json", {"shift_terminal": 1.0}, "not finite|does not step"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 0}, "cannot be loaded|does not step|not finite"),
    ],
)
def test_a_folder_that_says_what_is_not_so_is_refused(part: str, said: dict[str, Any], found: str, copy: Path) -> None:
    change(copy / part, **said)
    with pytest.raises(ModelError, match=found):
        load_model(str(copy))


@pytest.mark.parametrize("family", ["flux2-klein", "z-image", "qwen-image-edit", "sd3"])
def test_layers_of_a_text_encoder_that_its_configuration_leaves_out_are_noticed(family: str, tmp_path: Path) -> None:
    key = "num_hidden_layers"
    folder = toy_family(family, tmp_path / "toy")
    path = folder / "text_encoder/config.json"
    config = json.loads(path.read_text())
    table = config if key in config else config["text_config"]
    table[key] -= 1
    if "layer_types" in table:
        table["layer_types"] = table["layer_types"][: table[key]]
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"text_encoder has [\w.]+\.{table[key]}, for which its configuration has no place"):
        load_flow_model(folder)


def test_what_a_file_has_besides_its_stacks_is_no_layer_left_out() -> None:
    known = ["text.layers.0.w", "text.layers.1.w", "head.w"]
    assert left_out_layer([*known, "text.layers.0.rotary.inv_freq", "vision.layers.7.w", "mtp.0.w", "other.w"], known) == ""
    assert left_out_layer([*known, "text.layers.2.w", "text.layers.3.w"], known) == "text.layers.2"
    renamed = [name.removeprefix("text.") for name in known]  # as older files have it
    assert left_out_layer(renamed, known) == ""
    assert left_out_layer([*renamed, "layers.2.w"], known) == "layers.2"


@pytest.mark.parametrize("part", ["transformer/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"])
def test_a_number_that_is_none_is_found_where_it_is(part: str, copy: Path) -> None:
    path = copy / f"{part}.safetensors"
    tensors = load_file(path)
    tensors[min(name for name, tensor in tensors.items() if tensor.is_floating_point())].view(-1)[-1] = torch.nan
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{part.partition('/')[0]}.* that is not finite"):
        load_flow_model(copy)


def test_fewer_layers_than_are_read_and_other_tokens_are_refused(tmp_path: Path, copy: Path) -> None:
    tokenizer = json.loads((copy / "tokenizer/tokenizer.json").read_text())
    tokenizer["added_tokens"] += [
        {**tokenizer["added_tokens"][0], "id": 1000 + number, "content": f"<{number}>"} for number in range(9)
    ]
    (copy / "tokenizer/tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ModelError, match="tokenizer has other tokens than its text encoder"):
        load_flow_model(copy)
    short = toy_family("flux2-klein", tmp_path / "short", num_hidden_layers=20)
    with pytest.raises(ModelError, match=r"do not go together \(a text encoder of 20 layers, of which layer 27 is read"):
        load_flow_model(short)


def test_nothing_that_a_folder_names_is_run(folder: Path, copy: Path) -> None:
    """Its template of a chat, the code that a configuration names, kernels on a hub, weights that are pickled."""
    named = {"_attn_implementation": "a/b", "auto_map": {"AutoModel": "a/b--c.D"}, "quantization_config": {"quant_method": "x"}}
    for part in ("text_encoder", "transformer"):
        change(copy / part / "config.json", **named)
        (copy / part / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b", "peft_type": "LORA"}')
    change(
        copy / "tokenizer/tokenizer_config.json", chat_template=HOSTILE_TEMPLATE, auto_map={"AutoTokenizer": ["a/b--c.D", None]}
    )
    (copy / "tokenizer/chat_template.jinja").write_text(HOSTILE_TEMPLATE)
    (copy / "transformer/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04N.")
    prompts = [load_flow_model(each).prompt_encoder(["a man"], {}, torch.device("cpu")).hidden for each in (copy, folder)]
    assert torch.equal(*prompts)


def test_an_older_configuration_s_base_of_rotary_positions_is_read(folder: Path, copy: Path) -> None:
    path = copy / "text_encoder/config.json"
    config = json.loads(path.read_text())
    config.pop("rope_parameters")
    path.write_text(json.dumps(config | {"rope_theta": 1_000_000, "rope_scaling": None}))
    assert load_flow_model(copy).pipeline.text_encoder.config.rope_parameters["rope_theta"] == 1_000_000
    assert load_flow_model(folder).pipeline.text_encoder.config.rope_parameters["rope_theta"] != 1_000_000


def test_pipes_and_mutated_configurations_are_refused_or_loaded_whole(copy: Path) -> None:
    tally = Tally("families")
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        tally.attempt(str(path), lambda: load_flow_model(copy))
        path.unlink()
        if path.name in ("model_index.json", "config.json", "scheduler_config.json"):
            for number, mutation in enumerate(json_mutations(json.loads(content), 1, 3)):
                path.write_bytes(mutation)
                tally.attempt(f"{path} {number}", lambda: load_flow_model(copy))
        path.write_bytes(content)
    assert not tally.failed
    assert load_flow_model(copy).name.startswith("model@")


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
@pytest.mark.parametrize("name", ["flux2-klein", "sd3", "z-image"])
def test_a_tokenizer_without_words_is_refused(name: str, kept: tuple[str, ...], tmp_path: Path) -> None:
    folder = toy_family(name, tmp_path / "model")
    for path in (folder / "tokenizer").iterdir():
        if path.name not in kept:
            path.unlink()
    with pytest.raises(ModelError, match=r"tokenizer has (no words|other tokens)"):
        load_flow_model(folder)
