"""What DreamBooth trained on a tiny transformer, in files that others read, beside packed weights, and beside photos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from tenth.core.errors import IdentityError, ModelError
from tenth.core.types import Identity
from tenth.methods.combined import combine_identities
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.export import export_lora, export_model
from tenth.models.families.loader import load_flow_model
from toy_dreambooth import FLOW_SETTINGS, PROMPT, all_weights, assert_as_before, draw, person
from toy_families import toy_family

FAMILIES = ["flux2-klein"]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family(request.param, tmp_path_factory.mktemp("models") / request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_flow_model(folder)


@pytest.fixture(scope="module")
def tuned(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.mktemp("store")))
        return DreamBooth("dreambooth-lora", FLOW_SETTINGS)(person(1, 2), model).identity


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_diffusers_loads_what_was_trained_and_draws_the_same(
    model: Any, tuned: Identity, folder: Path, layout: str, tmp_path: Path
) -> None:
    export_lora(tuned, tmp_path / "lora.safetensors", layout)
    theirs = getattr(diffusers, model.family.pipeline_class).from_pretrained(folder)
    theirs.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    assert drawn_by(theirs).shape == (64, 64, 3)
    with model.applied([tuned]):
        ours = drawn_by(model.pipeline)
    assert np.abs(drawn_by(theirs) - ours).max() <= 1e-5
    assert np.abs(drawn_by(model.pipeline) - ours).max() > 1e-3


def drawn_by(pipeline: Any) -> np.ndarray:
    """An image in [0, 1] of a pipeline of diffusers."""
    seed = torch.Generator().manual_seed(3)
    images = pipeline(prompt=PROMPT, height=64, width=64, num_inference_steps=2, generator=seed, output_type="np").images
    return np.asarray(images[0])


def test_a_file_that_was_exported_is_read_back_by_lora(model: Any, tuned: Identity, folder: Path, tmp_path: Path) -> None:
    with model.applied([tuned]):
        expected = {name: value.clone() for name, value in model.pipeline.transformer.state_dict().items()}
    for layout in ("diffusers", "kohya"):
        export_lora(tuned, tmp_path / f"{layout}.safetensors", layout)
        merged = load_flow_model(folder, lora=tmp_path / f"{layout}.safetensors").pipeline.transformer.state_dict()
        for name, value in expected.items():
            torch.testing.assert_close(merged[name], value, rtol=1e-5, atol=1e-6)


def test_a_whole_model_has_the_person_in_it(model: Any, tmp_path: Path) -> None:
    identity = DreamBooth("dreambooth", replace(FLOW_SETTINGS, lora=None))(person(1, 2), model).identity
    export_model(identity, model, tmp_path / "model")
    with model.applied([identity]):
        expected = {name: value.clone() for name, value in model.pipeline.transformer.state_dict().items()}
    loaded = load_flow_model(tmp_path / "model").pipeline.transformer.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.items())


class PackedLinear(torch.nn.Module):
    """A stand-in for a quantizer's layer: frozen weights that nothing can be added to, of two values for each row."""

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = layer.weight.shape
        self.register_buffer("signs", layer.weight > 0)
        self.register_buffer("scales", layer.weight.detach().abs().mean(1, keepdim=True))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, torch.where(self.signs, self.scales, -self.scales).to(x.dtype))


def test_low_rank_matrices_are_trained_beside_frozen_weights_of_few_bits(folder: Path, tmp_path: Path) -> None:
    """QLoRA: the matrices stand beside the layers, in training and in drawing, and a file of them is as any other."""
    model = load_flow_model(folder)
    transformer = model.pipeline.transformer
    for name, layer in list(transformer.named_modules()):
        if isinstance(layer, torch.nn.Linear) and "blocks" in name:
            transformer.set_submodule(name, PackedLinear(layer))
    before, layers = all_weights(model), dict(transformer.named_modules())
    identity = DreamBooth("dreambooth-lora", FLOW_SETTINGS)(person(1, 2), model).identity
    assert_as_before(model, before)
    assert all(layer is layers[name] for name, layer in transformer.named_modules())
    assert np.abs(draw(model, identity) - draw(model, None)).max() > 1
    assert_as_before(model, before)
    export_lora(identity, tmp_path / "lora.safetensors")

    # The same matrices, added to weights of 32 bits that are what the packed ones stand for.
    whole = load_flow_model(folder)
    for name, layer in whole.pipeline.transformer.named_modules():
        if isinstance(layers.get(name), PackedLinear):
            layer.weight.data = layers[name](torch.eye(layers[name].in_features)).T.contiguous()
    assert np.abs(draw(whole, replace(identity, model=whole.name)) - draw(model, identity)).max() <= 1
    whole_difference = {"transformer.transformer_blocks.0.attn.to_q.weight.diff": torch.zeros(32, 32)}
    with pytest.raises(ModelError, match="is kept in 8 or 4 bits; whole differences are added to weights of 16 or 32 bits"):
        draw(model, replace(identity, weights=whole_difference))


def test_weights_and_photos_in_context_together(model: Any, tuned: Identity) -> None:
    """Each changes the image, and the weights are as with no photo beside them."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    photos = Identity("photos-in-context", model.name, "", "", context=model.family.encode_photos(model.pipeline, [pixels]))
    both = combine_identities(tuned, photos)
    assert (both.method, both.trigger_phrase) == ("dreambooth-lora+photos-in-context", tuned.trigger_phrase)
    assert both.context.keys() == photos.context.keys()
    before = all_weights(model)
    images = [draw(model, each) for each in (tuned, photos, both)]
    assert_as_before(model, before)
    assert not np.array_equal(images[2], images[0])
    assert not np.array_equal(images[2], images[1])
    with pytest.raises(IdentityError, match="one with embeddings or photos"):
        combine_identities(photos, tuned)
