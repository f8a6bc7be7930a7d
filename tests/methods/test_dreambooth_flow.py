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
from tenth.core.errors import RecipeError
from tenth.core.rng import StepRNG
from tenth.core.types import Identity
from tenth.data.photo import open_photo
from tenth.methods.dreambooth.checkpoint_selection import build_selector, embed_images
from tenth.methods.dreambooth.data import prepare_data
from tenth.methods.dreambooth.defaults import default_settings
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.dreambooth.rare_token import find_rare_token
from tenth.methods.identity_file import load_identity, save_identity
from tenth.models.families.loader import load_flow_model
from tenth.sampling.generate import Request, generate
from tenth.training.flow_matching.frozen_model import frozen_model
from tenth.training.flow_matching.frozen_transformer import FrozenTransformer
from tenth.training.flow_matching.time_sampling import TimeSampling
from toy_dreambooth import FLOW_SETTINGS, ONE_STEP, PROMPT, SCHEDULE, SETTINGS, all_weights, assert_as_before, draw, person
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
    together = generate(model, [Request(each, PROMPT, 0) for each in (tuned, bert, None)], ONE_STEP)
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
    with pytest.raises(RecipeError, match=r"\[time_sampling\]; only transformers trained by flow matching have one"):
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
    selector = build_selector(model, pixels[:2], pixels[2:], [PROMPT], ONE_STEP, tmp_path)
    assert selector is not None
    is_best, metrics = selector(4)
    assert is_best
    assert metrics["person/held-out photos"] == 0  # no face in what random weights draw
