"""What lies in a file's place and is none, and what a model's folder may not say: refused in a line, by every reader alike."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tally import Tally
from tenth.cli.main import main
from tenth.core.config import read_toml
from tenth.core.errors import DataError, IdentityError, ModelError, TenthError
from tenth.core.run_record import read_record
from tenth.core.types import Identity
from tenth.data.captions.attributes import read_attributes
from tenth.data.captions.sidecar_files import read_caption
from tenth.data.manifest import read_manifest
from tenth.evaluation.extractors.face_attributes import FaceAttributeClassifier
from tenth.evaluation.extractors.inception_weights import read_weights
from tenth.evaluation.extractors.recognizer_config import read_model, read_recognizer_config
from tenth.evaluation.image_set import load_image
from tenth.experiments.generation.png_settings import read_png_settings
from tenth.experiments.output_folders import ensure_writable_experiment
from tenth.experiments.runner import read_experiment
from tenth.methods.dreambooth.method import load_trained_weights
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.registry import method
from tenth.models.adapters.ip_adapter import load_ip_adapter, uses_patch_tokens
from tenth.models.aggregators.checkpoint import load_aggregator
from tenth.models.encoders.clip import ClipEncoder
from tenth.models.hub.lockfile import read_lock
from tenth.models.model_folder import read_config
from tenth.models.pocket.loader import load_pocket, read_statistics
from tenth.models.registry import load_model
from tenth.training.checkpoint import load_checkpoint, save_checkpoint
from tenth.training.monitoring import read_history

KERNEL = "kernels-community/flash-attn"
# Every reader of one file, by the name that the file has to have.
READERS: Mapping[str, tuple[str, Callable[[Path], Any]]] = {
    "identity": ("me.safetensors", load_identity),
    "adapter": ("a.safetensors", load_ip_adapter),
    "adapter's names": ("a.safetensors", uses_patch_tokens),
    "aggregator": ("a.safetensors", load_aggregator),
    "face-attributes": ("a.safetensors", FaceAttributeClassifier),
    "statistics": ("a.safetensors", read_statistics),
    "recipe": ("r.toml", read_toml),
    "experiment": ("r.toml", read_experiment),
    "recipe of a method": ("r.toml", lambda path: method(str(path))),
    "people": ("people.jsonl", read_manifest),
    "record": ("run.json", lambda path: read_record(path, command="experiment")),
    "settings of an experiment": ("settings.json", lambda path: ensure_writable_experiment(path.parent, {"seed": 0})),
    "lock": ("models.lock", lambda path: read_lock(path.parent)),
    "table": ("a.csv", read_attributes),
    "caption": ("a.txt", read_caption),
    "recognizer": ("r.toml", read_recognizer_config),
    "recognizer's model": ("r.onnx", lambda path: read_model(path, "0" * 64)),
    "inception": ("i.pth", read_weights),
    "picture": ("p.png", read_png_settings),
    "history": ("validation.jsonl", lambda path: read_history(path.parent)),
    "configuration": ("config.json", read_config),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10 << 30)


def brackets(path: Path) -> None:
    path.write_text("[" * 100_000)


def half_a_character(path: Path) -> None:
    path.write_bytes(b'{"a": "\\ud800"}\n')


PUTS = (pipe, device, loop, sparse, brackets, half_a_character, Path.mkdir)


@pytest.mark.parametrize("put", PUTS, ids=lambda put: put.__name__)
@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_such_file_is_refused_at_once(kind: str, put: Callable[[Path], Any], tmp_path: Path) -> None:
    name, read = READERS[kind]
    put(tmp_path / name)
    tally = Tally(kind)
    tally.attempt(put.__name__, lambda: read(tmp_path / name))
    assert not tally.failed
    assert tally.refused == ((kind, put) != ("caption", half_a_character))  # to a caption a backslash is a backslash


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes("\ufeffstage = 'ä'".encode())
    assert read_toml(tmp_path / "r.toml") == {"stage": "ä"}


@pytest.mark.parametrize("value", ["9" * 5_000, "9" * 30, "1e999", "nan", "[" * 5_000, '"\\u0000"', "1979-05-27"])
def test_a_recipe_says_numbers_that_are_some(value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.toml"
    data = '[data]\npeople = "p"\nphotos = "q"'
    recipe.write_text(f'stage = "adapter"\naggregator = "set"\n{data}\n[schedule]\ntotal_images = 1\nmax_grad_norm = {value}\n')
    assert main(["train", str(recipe), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) < 500 + 2 * len(str(tmp_path))
    assert not (tmp_path / "out").exists()


def not_finite(path: Path) -> None:
    """One number of the file becomes NaN; all else stays."""
    tensors, texts = load_file(path), _texts(path)
    tensors[min(tensors)].view(-1)[-1] = torch.nan
    save_file(tensors, path, metadata=texts or None)


def _texts(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    found: dict[str, str] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [
        *("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model", "ip-adapter/ip-adapter"),
        "image_encoder/model",
    ],
)
def test_a_number_that_is_none_is_found_where_it_is(part: str, sd15_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sd15_folder, tmp_path / "model"))
    assert load_model(str(copy)).name.startswith("model@")
    not_finite(copy / f"{part}.safetensors")
    with pytest.raises(ModelError, match=rf"{part.partition('/')[0]}.* that is not finite"):
        load_model(str(copy))


def test_an_aggregator_and_an_identity_hold_finite_numbers(toy_folder: Path, tmp_path: Path) -> None:
    aggregator = tmp_path / "aggregator.safetensors"
    shutil.copyfile(toy_folder / "ip-adapter-set/aggregator.safetensors", aggregator)
    not_finite(aggregator)
    with pytest.raises(ModelError, match=r"aggregator\.safetensors holds .* not finite"):
        load_aggregator(aggregator)
    save_identity(Identity("ip-adapter", "m@1", "e@2", "a@3", torch.full((1, 8), torch.inf)), tmp_path / "me.safetensors")
    with pytest.raises(IdentityError, match=r"me\.safetensors holds embeddings with a number that is not finite"):
        load_identity(tmp_path / "me.safetensors")


@pytest.mark.parametrize("shape", [(1, 7), (2, 128, 1), (1, 3, 128)])
def test_embeddings_of_another_shape_are_refused_before_anything_is_drawn(shape: tuple[int, ...], toy_model: Any) -> None:
    names = toy_model.name, toy_model.encoder.name, toy_model.adapter_name
    with pytest.raises(IdentityError, match="gives 128 for each photo"):
        toy_model.validate(Identity("ip-adapter", *names, torch.rand(shape)))


def test_what_dreambooth_kept_is_learnt_again_where_it_is_damaged(tmp_path: Path) -> None:
    kept, name = tmp_path / "learnt.safetensors", "unet.conv_in.weight.diff"
    save_file({name: torch.ones(2)}, kept)
    assert list(load_trained_weights(kept) or ()) == [name]
    for tensors in ({name: torch.full((2,), torch.nan)}, {name: torch.ones(2, dtype=torch.int32)}, {"x": torch.ones(2)}):
        save_file(tensors, kept)
        assert load_trained_weights(kept) is None
    kept.unlink()
    for put in (pipe, device, loop):
        put(kept)
        assert load_trained_weights(kept) is None
        kept.unlink()


@pytest.mark.parametrize("content", [b"", b"x", b"\x89PNG\r\n\x1a\n"])
def test_a_image_of_an_experiment_that_is_not_whole_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(DataError, match=r"0\.png is no whole PNG"):
        load_image(tmp_path / "0.png")


def change(path: Path, **said: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | said))


def test_loading_asks_no_network_whatever_a_configuration_names(sd15_folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sd15_folder, tmp_path / "model"))
    for part in ("text_encoder", "image_encoder"):
        named = {"_attn_implementation": KERNEL, "attn_implementation": KERNEL, "auto_map": {"AutoModel": "a/b--c.D"}}
        change(copy / part / "config.json", **named, quantization_config={"quant_method": "x"}, get_text_config=5)
        (copy / part / "adapter_config.json").write_text('{"base_model_name_or_path": "a/b", "peft_type": "LORA"}')
    model = load_model(str(copy))
    assert model.pipeline.text_encoder.config._attn_implementation == "sdpa"
    assert isinstance(model.encoder, ClipEncoder)
    assert model.encoder.model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    ("part", "said", "found"),
    [
        ("model_index.json", {"unet": ["os", "system"]}, "names .* as its unet"),
        ("model_index.json", {"scheduler": ["a/b", "c/d"]}, "names .* as its scheduler"),
        ("text_encoder/config.json", {"hidden_act": KERNEL}, "names kernels-community/flash-attn as its hidden_act"),
        ("text_encoder/config.json", {"hidden_size": 10**6}, "has .* where its configuration asks for"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**6}, "asks for 1000000 layers"),
        ("text_encoder/config.json", {"hidden_size": "16"}, "configuration of nothing that can be made"),
        ("unet/config.json", {"block_out_channels": [16, 10**6]}, "asks for"),
        ("unet/config.json", {"layers_per_block": 3}, "for which its configuration asks"),
        ("unet/config.json", {"sample_size": 10**6}, "as its sample_size"),
        ("unet/config.json", {"time_embedding_type": "fourier"}, "unet"),
        ("vae/config.json", {"latent_channels": "4"}, "vae"),
        ("scheduler/scheduler_config.json", {"prediction_type": "x"}, "does not step"),
        ("scheduler/scheduler_config.json", {"beta_end": 30.0}, "not finite"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**8}, "as its num_train_timesteps"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**6}, "other tokens than its text encoder"),
        ("image_encoder/config.json", {"patch_size": 0}, "patch_size|image_encoder|cannot be read"),
        ("image_encoder/config.json", {"num_attention_heads": 0}, "image_encoder"),
    ],
)
def test_a_folder_that_says_what_is_not_so_is_refused(
    part: str, said: dict[str, Any], found: str, sd15_folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(sd15_folder, tmp_path / "model"))
    change(copy / part, **said)
    with pytest.raises(ModelError, match=found):
        load_model(str(copy))


def test_a_pipe_anywhere_in_a_model_is_not_waited_for(toy_folder: Path, tmp_path: Path) -> None:
    tally, copy = Tally("pipes"), Path(shutil.copytree(toy_folder, tmp_path / "model"))
    for path in sorted(path for path in copy.rglob("*") if path.is_file() and "aggregator" not in path.name):
        if path.parent.name == "ip-adapter-attention":
            continue
        content = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        tally.attempt(str(path), lambda: load_pocket(copy))
        path.unlink()
        path.write_bytes(content)
    assert not tally.failed
    assert tally.refused == tally.tried > 5
    assert load_pocket(copy).name.startswith("pocket@")


def test_a_checkpoint_of_other_shapes_is_refused(tmp_path: Path) -> None:
    from tenth.training.distributed import distributed_state
    from tenth.training.schedule import TrainingConfig
    from tenth.training.state import TrainState

    learning = TrainState({"net": torch.nn.Linear(2, 3)}, TrainingConfig(total_images=64), distributed_state())
    names = [f"{kind}.net.{name}" for kind in ("weight", "average") for name in ("weight", "bias")]
    save_checkpoint(tmp_path, 1, {name: torch.zeros(5) for name in names})
    assert load_checkpoint(tmp_path) is not None
    with pytest.raises(TenthError, match="a checkpoint of other weights"):
        learning.restore(tmp_path)
