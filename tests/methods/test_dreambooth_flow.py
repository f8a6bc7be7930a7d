"""DreamBooth on tiny transformers with random weights, by flow matching: what is trained, what stays, and who reads it."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.cache import ArrayCache
from tenth.core.errors import IdentityError, ModelError, RecipeError
from tenth.core.rng import StepRNG
from tenth.core.types import Identity
from tenth.data.photo import open_photo
from tenth.methods.combined import combine_identities
from tenth.methods.dreambooth.checkpoint_selection import CheckpointImages, build_selector, embed_images
from tenth.methods.dreambooth.data import prepare_data
from tenth.methods.dreambooth.defaults import default_settings
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.dreambooth.rare_token import find_rare_token
from tenth.methods.export import export_lora, export_model
from tenth.methods.identity_file import load_identity, save_identity
from tenth.models.families.loader import load_flow_model
from tenth.models.memory.planner import LoadOptions
from tenth.sampling.generate import Request, generate
from tenth.training.flow_matching.frozen_model import frozen_model
from tenth.training.flow_matching.frozen_transformer import FrozenTransformer
from tenth.training.flow_matching.time_sampling import TimeSampling
from toy_dreambooth import FLOW_SETTINGS, PROMPT, SCHEDULE, SETTINGS, TWO_STEPS, all_weights, assert_as_before, draw, person
from toy_families import toy_family


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_family("flux2-klein", tmp_path_factory.mktemp("models") / "klein")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_flow_model(folder)


@pytest.fixture(scope="module")
def tuned(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Identity:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.mktemp("store")))
        return DreamBooth("dreambooth-lora", FLOW_SETTINGS)(person(1, 2), model).identity


@pytest.mark.parametrize("name", ["dreambooth-lora", "dreambooth"])
def test_a_person_is_fine_tuned_and_the_model_stays(model: Any, name: str, tmp_path: Path) -> None:
    before = all_weights(model)
    settings = FLOW_SETTINGS if name == "dreambooth-lora" else replace(FLOW_SETTINGS, lora=None)
    identity = DreamBooth(name, settings)(person(1, 2), model).identity
    assert_as_before(model, before)
    assert {key.partition(".")[0] for key in identity.weights} == {"transformer"}
    assert identity.trigger_phrase == f"{find_rare_token(model.pipeline)} person"
    assert np.abs(draw(model, identity) - draw(model, None)).max() > 1
    assert_as_before(model, before)
    save_identity(identity, tmp_path / "anna.safetensors")
    assert np.array_equal(draw(model, load_identity(tmp_path / "anna.safetensors")), draw(model, identity))


def test_two_people_one_after_the_other_leave_the_model_as_it_was(model: Any, tuned: Identity) -> None:
    before = all_weights(model)
    bert = DreamBooth("dreambooth-lora", FLOW_SETTINGS)(person(3, 4), model).identity
    alone = [draw(model, each) for each in (tuned, bert, None)]
    together = generate(model, [Request(each, PROMPT, 0) for each in (tuned, bert, None)], TWO_STEPS)
    assert all(np.array_equal(one, sample.pixels) for one, sample in zip(alone, together, strict=True))
    assert np.abs(alone[0] - alone[1]).max() > 1
    assert_as_before(model, before)


def test_training_lowers_the_loss(model: Any, store: Path) -> None:
    settings = replace(
        FLOW_SETTINGS, prior_loss_weight=0.0, schedule=replace(SCHEDULE, total_images=96, batch_size=8, learning_rate=0.02)
    )
    trained = DreamBooth("dreambooth-lora", settings)(person(1), model).identity
    with frozen_model(model, TimeSampling()) as frozen:
        data = prepare_data(person(1).photos, find_rare_token(model.pipeline), settings, model, frozen, ArrayCache(store))

        @torch.no_grad()
        def loss() -> float:
            return sum(float(data.loss(torch.zeros(8, dtype=torch.long), StepRNG(9, step, 8))) for step in range(4)) / 4

        before = loss()
        with model.applied([trained]):
            assert loss() < 0.97 * before


def test_interrupted_it_goes_on_where_it_stopped(
    model: Any, tuned: Identity, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, plain = iter(range(100)), FrozenTransformer.per_sample_loss

    def interrupting(self: FrozenTransformer, *given: Any) -> torch.Tensor:
        if next(steps) == 1:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *given)

    before = all_weights(model)
    monkeypatch.setattr(FrozenTransformer, "per_sample_loss", interrupting)
    method = DreamBooth("dreambooth-lora", FLOW_SETTINGS)
    with pytest.raises(KeyboardInterrupt, match="same command goes on"):
        method(person(1, 2), model)
    assert_as_before(model, before)
    resumed = method(person(1, 2), model).identity
    assert next(steps) == 3  # two steps before, one after
    assert resumed.weights.keys() == tuned.weights.keys()
    assert all(torch.equal(value, resumed.weights[name]) for name, value in tuned.weights.items())


def test_text_encoders_are_freed_while_a_person_is_trained_and_back_for_drawing(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best checkpoint is chosen by a photo that is not trained on, as of a UNet."""
    held: list[int] = []
    plain = FrozenTransformer.per_sample_loss

    def numbers() -> int:
        return sum(weight.numel() for weight in model.pipeline.text_encoder.parameters())

    def watched(self: FrozenTransformer, *given: Any) -> torch.Tensor:
        held.append(numbers())
        return plain(self, *given)

    def opened(_: Any, given: list[Any], held_out: list[Any], *__: Any) -> Any:
        assert (len(given), len(held_out)) == (4, 1)
        return lambda seen: (held.append(numbers()) is None and seen == 8, {})

    whole = numbers()
    monkeypatch.setattr(FrozenTransformer, "per_sample_loss", watched)
    DreamBooth("dreambooth-lora", FLOW_SETTINGS, opened)(person(1, 2, 3, 4, 5), model)
    assert held == [0, whole, 0, whole, 0, whole]
    assert numbers() == whole


def test_what_a_transformer_has_no_use_for_is_refused_before_anything_is_computed(model: Any, toy_model: Any) -> None:
    for changes, found in (
        ({"min_snr_gamma": 5.0}, "min_snr_gamma is 5.0"),
        ({"train_text_encoder": True}, "train_text_encoder"),
    ):
        with pytest.raises(RecipeError, match=found):
            DreamBooth("dreambooth-lora", replace(FLOW_SETTINGS, **changes))(person(1), model)
    with pytest.raises(RecipeError, match="time_sampling for toy; only a transformer trained by flow matching has one"):
        DreamBooth("dreambooth-lora", replace(SETTINGS, time_sampling=TimeSampling()))(person(1), toy_model)


def test_the_defaults_are_the_family_s(model: Any) -> None:
    lora, whole = (default_settings(name, model) for name in ("dreambooth-lora", "dreambooth"))
    assert lora.lora is not None
    assert lora.lora.target_modules == model.family.training.lora_targets
    assert lora.time_sampling == TimeSampling(model.family.training.logit_mean, model.family.training.logit_std)
    assert (whole.lora, whole.min_snr_gamma, whole.train_text_encoder) == (None, 0.0, False)
    assert lora.sampling.steps == model.default_sampling.steps == 4


def test_faces_of_checkpoints_are_read_by_dlib_as_a_transformer_has_no_encoder(
    model: Any, face_photos: list[Path], tmp_path: Path
) -> None:
    pixels = [open_photo(path).pixels for path in face_photos[:3]]
    rows = embed_images(model, pixels)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1)
    selector = build_selector(model, pixels[:2], pixels[2:], CheckpointImages([PROMPT], TWO_STEPS), tmp_path)
    assert selector is not None
    is_best, metrics = selector(4)
    assert is_best
    assert metrics["person/held-out photos"] == 0  # no face in what random weights draw


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


@pytest.mark.parametrize("profile", ["half-text-freed", "nf4"])
def test_a_person_is_trained_on_a_model_as_a_memory_profile_holds_it(folder: Path, profile: str, tmp_path: Path) -> None:
    model = load_flow_model(folder, LoadOptions(device="cpu", profile=profile))
    plain = draw(model, None)
    settings = replace(FLOW_SETTINGS, schedule=replace(SCHEDULE, precision="bf16"))
    identity = DreamBooth("dreambooth-lora", settings)(person(1, 2), model).identity
    assert np.abs(draw(model, identity) - plain).max() > 1
    assert np.array_equal(draw(model, None), plain)
    with pytest.raises(ModelError, match="is kept in fewer bits; a whole model is written from weights in float32"):
        export_model(identity, model, tmp_path / "model")


def test_the_size_of_training_is_a_setting(model: Any, store: Path) -> None:
    settings = replace(FLOW_SETTINGS, resolution=32)
    with frozen_model(model, TimeSampling()) as frozen:
        data = prepare_data(person(1).photos, "zwx", settings, model, frozen, ArrayCache(store))
    assert data.instance_moments.shape[-2:] == data.class_moments.shape[-2:] == (2, 2)
    with pytest.raises(RecipeError, match="resolution is 40; needed: a multiple of 16"):
        DreamBooth("dreambooth-lora", replace(settings, resolution=40))(person(1), model)


def test_matrices_are_trained_in_32_bits_beside_weights_in_16(folder: Path) -> None:
    model = load_flow_model(folder)
    for part in (model.pipeline.transformer, model.pipeline.text_encoder):
        part.to(torch.bfloat16)
    before = all_weights(model)
    settings = replace(FLOW_SETTINGS, schedule=replace(SCHEDULE, precision="bf16"))
    identity = DreamBooth("dreambooth-lora", settings)(person(1, 2), model).identity
    assert {value.dtype for value in identity.weights.values()} == {torch.float32}
    assert_as_before(model, before)
    assert np.abs(draw(model, identity) - draw(model, None)).max() > 1
    with pytest.raises(RecipeError, match="precision is fp32; beside weights in 16 bits it is bf16 or fp16"):
        DreamBooth("dreambooth-lora", FLOW_SETTINGS)(person(1, 2), model)
    with pytest.raises(
        ModelError, match="Flux2Transformer2DModel is kept in fewer bits; training all weights needs them in float32"
    ):
        DreamBooth("dreambooth", replace(settings, lora=None))(person(1, 2), model)
    assert_as_before(model, before)
