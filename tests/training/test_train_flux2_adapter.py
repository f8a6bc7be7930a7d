"""An adapter for FLUX.2 klein, for which nobody has published one: trained leave-one-out on a toy, saved, and drawn with."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tenth.cli.main import main
from tenth.core.errors import IdentityError, ModelError, RecipeError
from tenth.core.rng import StepRNG
from tenth.core.types import Person, Photo
from tenth.methods.export import export_embeddings
from tenth.methods.registry import method
from tenth.models.adapters.ip_adapter import init_ip_adapter, load_ip_adapter
from tenth.models.aggregators.set_aggregator import SetAggregator
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.sampler import SamplingBatch, sample_float
from tenth.training.adapter.synthetic_data import SyntheticPeople
from tenth.training.adapter.trainer import AdapterRecipe, AdapterTrainer, train_adapter
from tenth.training.flow_matching.frozen_model import frozen_model
from tenth.training.schedule import TrainingConfig
from toy_families import toy_family
from toy_image_encoders import write_clip

PROMPT, FEW = "a photo of a person", SamplingConfig(steps=2)
SHORT = TrainingConfig(total_images=240, batch_size=8, warmup_images=8, ema_halflife_images=8, learning_rate=1e-2)
RECIPE = AdapterRecipe("set", synthetic=SyntheticPeople(num_people=3, photos_per_person=11), schedule=SHORT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = toy_family("flux2-klein", tmp_path_factory.mktemp("klein") / "klein", is_distilled=False)
    write_clip(made / "image_encoder")
    return made


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(folder)


def hashes(model: Any) -> dict[str, str]:
    parts = {"transformer": model.pipeline.transformer, "text": model.pipeline.text_encoder, "vae": model.pipeline.vae}
    return {
        f"{part}.{name}": hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


@pytest.fixture(scope="module")
def trained(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that training wrote; it leaves the model as it was, with all its weights in their places."""
    directory, before = tmp_path_factory.mktemp("run"), hashes(model)
    train_adapter(RECIPE, model, directory)
    assert hashes(model) == before
    return directory / "final"


def person(*numbers: int) -> Person:
    """Photos of big blocks of colour."""
    blocks = [np.random.default_rng(number).integers(0, 255, (4, 5, 3), dtype=np.uint8) for number in numbers]
    photos = [Photo(each.repeat(60, 0).repeat(60, 1), f"{number:064x}") for number, each in zip(numbers, blocks, strict=True)]
    return Person("anna", tuple(photos))


def mean_loss(model: Any, parts: Any, aggregator: Any) -> float:
    """Over fixed people, times and noise."""
    with frozen_model(model, RECIPE.times, parts) as frozen, torch.no_grad():
        assert RECIPE.synthetic is not None
        dataset = RECIPE.synthetic.build_dataset(model.encoder.embedding_dim, frozen)
        trainer = AdapterTrainer(RECIPE, model, frozen, aggregator, dataset)
        people = torch.arange(24) % 3
        return sum(float(trainer.loss(people, StepRNG(99, step, 24))) for step in range(4)) / 4


@pytest.mark.slow
def test_training_lowers_the_loss(model: Any, trained: Path) -> None:
    torch.manual_seed(0)
    new = init_ip_adapter(model.pipeline.transformer, model.encoder.embedding_dim)
    before = mean_loss(model, new, SetAggregator(model.encoder.embedding_dim))
    after = mean_loss(model, load_ip_adapter(trained / "ip-adapter.safetensors"), SetAggregator(model.encoder.embedding_dim))
    print(f"{before:.3f} -> {after:.3f}")
    assert after < 0.95 * before


def test_the_file_has_the_documented_names_and_shapes(model: Any, trained: Path) -> None:
    weights = load_file(trained / "ip-adapter.safetensors")
    inner, tokens, embedding_dim = model.pipeline.transformer.inner_dim, 4, model.encoder.embedding_dim
    expected = {"image_proj.proj.weight": (tokens * inner, embedding_dim), "image_proj.proj.bias": (tokens * inner,)}
    expected |= {"image_proj.norm.weight": (inner,), "image_proj.norm.bias": (inner,)}
    for block in ("transformer_blocks.0", "single_transformer_blocks.0"):
        expected |= {f"ip_adapter.{block}.to_{part}_ip.weight": (inner, inner) for part in "kv"}
        expected |= {f"ip_adapter.{block}.norm_k_ip.weight": (16,)}
    assert {name: tuple(tensor.shape) for name, tensor in weights.items()} == expected
    assert all(tensor.any() for tensor in weights.values())  # values began at zero


def test_nine_photos_in_any_order_are_one_identity(model: Any, trained: Path) -> None:
    anna, again = person(*range(9)), person(*reversed(range(9)))
    one, other = (method(str(trained))(each, model).identity for each in (anna, again))
    assert one.embeddings is not None
    assert other.embeddings is not None
    assert one.embeddings.shape == (1, model.encoder.embedding_dim)
    assert (one.embeddings - other.embeddings).abs().max() < 1e-5
    images = [drawn(model, each) for each in (one, other, method(str(trained))(person(*range(20, 29)), model).identity)]
    assert np.abs(images[0] - images[1]).max() < 1e-4
    assert np.abs(images[0] - images[2]).max() > 1e-4  # who it is, is seen


def drawn(model: Any, *identities: Any, seed: int = 3) -> Any:
    with model.applied(identities) as embeddings:
        count = len(identities)
        return np.stack(sample_float(SamplingBatch(model, FEW, [PROMPT] * count, [seed] * count, embeddings)))


def test_two_people_in_one_batch_are_each_drawn_alone(model: Any, trained: Path) -> None:
    people = [method(str(trained))(each, model).identity for each in (person(*range(9)), person(*range(20, 29)))]
    together = drawn(model, *people)
    for image, each in zip(together, people, strict=True):
        assert np.abs(image - drawn(model, each)[0]).max() < 1e-5


@pytest.mark.slow
def test_the_command_draws_with_the_folder(folder: Path, trained: Path, tmp_path: Path) -> None:
    made = ["generate", str(EXAMPLE_PHOTOS_DIR), "--model", str(folder), "--method", str(trained)]
    assert main([*made, "--prompt", PROMPT, "--steps", "2", "-n", "1", "-o", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out/0000.png") as image:
        assert image.size == (64, 64)


def test_an_adapter_of_its_folder_is_the_default_one(folder: Path, trained: Path, tmp_path: Path) -> None:
    # A copy of the trained file as the model's own: every method of ip-adapter's then reads the nine photos.
    (tmp_path / "image_encoder").symlink_to(folder / "image_encoder")
    (tmp_path / "ip-adapter.safetensors").write_bytes((trained / "ip-adapter.safetensors").read_bytes())
    with_adapter = load_model(folder, adapter=tmp_path / "ip-adapter.safetensors")
    identity = method("ip-adapter-consensus")(person(*range(9)), with_adapter).identity
    (sample,) = generate(with_adapter, [Request(identity, PROMPT, 3)], FEW)
    assert sample.pixels.shape == (64, 64, 3)
    with pytest.raises(IdentityError, match="which diffusers does not load"):
        export_embeddings(identity, with_adapter, tmp_path / "anna.safetensors")


def test_what_cannot_be_is_refused(model: Any, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="has no adapter, and this recipe trains none"):
        train_adapter(replace(RECIPE, trainable=("aggregator",)), model, tmp_path)
    without = load_model(toy_family("flux2-klein", tmp_path / "plain"))
    with pytest.raises(ModelError, match="has no image encoder"):
        method(str(trained))(person(1), without)
    with pytest.raises(ModelError, match="klein has no adapter"):
        method("ip-adapter")(person(1), model)
