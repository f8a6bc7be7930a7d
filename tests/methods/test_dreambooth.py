"""DreamBooth on a model of the pocket's layout with random weights: what is learnt, what stays, what goes wrong."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tenth.core.cache import ArrayCache
from tenth.core.errors import DataError, ModelError, RecipeError
from tenth.core.rng import StepRNG
from tenth.core.types import Person
from tenth.methods.dreambooth.checkpoint_selection import CheckpointImages
from tenth.methods.dreambooth.data import DreamBoothSettings, compute_class_moments, prepare_data
from tenth.methods.dreambooth.lora import ALL_LAYERS, ATTENTION_LAYERS, LoraSettings, trainable
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.dreambooth.rare_token import check_noun, find_rare_token
from tenth.methods.identity_file import load_identity, save_identity
from tenth.models.adapters.weight_deltas import LORA_A, LORA_B
from tenth.models.pipelines import load_pipeline
from tenth.models.pocket.loader import load_pocket
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.sampler import sample
from tenth.training.frozen_diffusion import FrozenDiffusion
from toy_drawing import centred_noise
from toy_dreambooth import SETTINGS, person

PROMPT, ONE_STEP = "a photo of a person", SamplingConfig(steps=1)


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def model(toy_folder: Path) -> Any:
    return load_pocket(toy_folder, name="toy")


def draw(model: Any, identity: Any, seed: int = 0) -> np.ndarray:
    (sample,) = generate(model, [Request(identity, PROMPT, seed)], ONE_STEP)
    return sample.pixels.astype(int)


def lesson_of(model: Any, settings: DreamBoothSettings, store: Path) -> Any:
    return prepare_data(person(1, 2).photos, "wn", settings, model, FrozenDiffusion(model.pipeline), ArrayCache(store))


@pytest.mark.parametrize("lora", [SETTINGS.lora, None])
@pytest.mark.parametrize("text_encoder", [False, True])
def test_a_person_is_fine_tuned_and_the_model_stays(
    model: Any, lora: LoraSettings | None, text_encoder: bool, tmp_path: Path
) -> None:
    parts = {name: getattr(model.pipeline, name) for name in ("unet", "text_encoder", "vae")}
    before = {(part, name): value.clone() for part, module in parts.items() for name, value in module.state_dict().items()}
    identity = DreamBooth("dreambooth", replace(SETTINGS, lora=lora, train_text_encoder=text_encoder))(
        person(1, 2), model
    ).identity
    after = {(part, name): value for part, module in parts.items() for name, value in module.state_dict().items()}
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert {name.partition(".")[0] for name in identity.weights} == {"unet", *["text_encoder"] * text_encoder}
    assert identity.trigger_phrase == f"{find_rare_token(model.pipeline)} person"
    assert identity.embeddings is None
    assert np.abs(draw(model, identity) - draw(model, None)).max() > 1
    save_identity(identity, tmp_path / "anna.safetensors")
    assert np.array_equal(draw(model, load_identity(tmp_path / "anna.safetensors")), draw(model, identity))


@pytest.mark.parametrize("lora", [SETTINGS.lora, None])
def test_what_is_put_on_is_what_was_trained(model: Any, lora: LoraSettings | None) -> None:
    frozen = FrozenDiffusion(model.pipeline)
    noise, text = StepRNG(0, 0, 1).normal(8, 16, 16), frozen.encode_prompts([PROMPT]).hidden
    with trainable(model.pipeline, lora) as learners:
        for name, value in learners.modules["unet"].named_parameters():
            if value.requires_grad:
                value.data += 0.02 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))
        average = {f"unet.{name}": value for name, value in learners.modules["unet"].named_parameters() if value.requires_grad}
        with torch.no_grad():
            trained = model.pipeline.unet(noise, 500, text).sample
        weights = {name: value.detach() for name, value in learners.extract_deltas(average).items()}
    plain = person(1).photos[0].digest
    from tenth.core.types import Identity

    with torch.no_grad(), model.applied([Identity("m", model.name, "", "", weights=weights, photos=(plain,))]):
        torch.testing.assert_close(model.pipeline.unet(noise, 500, text).sample, trained, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lora", [SETTINGS.lora, None])
@pytest.mark.parametrize(
    ("photos", "selector"), [((1, 2), None), ((1, 2, 4, 8, 16), lambda *_: lambda seen: (True, {}))], ids=["last", "best"]
)
def test_of_what_was_trained_a_part_may_be_kept(
    model: Any, lora: LoraSettings | None, photos: tuple[int, ...], selector: Any
) -> None:
    changes = []
    for strength in (1.0, 0.25):
        settings = replace(SETTINGS, lora=lora, strength=strength)
        weights = DreamBooth("dreambooth", settings, selector_factory=selector)(person(*photos), model).identity.weights
        if lora is not None:
            names = [name.removesuffix(LORA_A) for name in weights if name.endswith(LORA_A)]
            weights = {name: (weights[name + LORA_B].flatten(1) @ weights[name + LORA_A].flatten(1)) for name in names}
        changes.append(weights)
    assert any(change.any() for change in changes[0].values())
    for name, change in changes[1].items():
        torch.testing.assert_close(change, 0.25 * changes[0][name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("layers", [ATTENTION_LAYERS, ALL_LAYERS])
def test_diffusers_loads_what_was_trained_and_draws_the_same(
    model: Any, layers: tuple[str, ...], toy_folder: Path, tmp_path: Path
) -> None:
    identity = DreamBooth("dreambooth-lora", replace(SETTINGS, lora=LoraSettings(2, 4, layers)))(person(1, 2), model).identity
    save_file(dict(identity.weights), tmp_path / "lora.safetensors")
    pipeline, prompt = load_pipeline(toy_folder), f"a photo of a {identity.trigger_phrase}"
    pipeline.load_lora_weights(tmp_path, weight_name="lora.safetensors")
    asked = {"num_inference_steps": 2, "guidance_scale": 2.0, "latents": centred_noise(model, 3), "output_type": "np"}
    drawn = pipeline(prompt, **asked).images[0]
    with model.applied([identity]):
        ours = model.pipeline(prompt, **asked).images[0]
    assert np.abs(drawn - ours).max() <= 1e-5
    sampling = SamplingConfig(steps=2, guidance_scale=2.0, guidance_rescale=0.0, text_guidance_scale=0.0)
    (sample,) = generate(model, [Request(identity, PROMPT, 3)], sampling)
    assert np.abs(np.rint(drawn * 255) - sample.pixels).max() <= 1


def test_several_people_one_after_the_other_do_not_leak(model: Any) -> None:
    anna, bert = (DreamBooth("dreambooth-lora", SETTINGS)(person(*numbers), model).identity for numbers in ((1, 2), (3, 4)))
    alone = [draw(model, each) for each in (anna, bert, None)]
    together = generate(model, [Request(each, PROMPT, 0) for each in (anna, bert, None)], ONE_STEP)
    assert all(np.array_equal(one, sample.pixels) for one, sample in zip(alone, together, strict=True))
    assert np.abs(alone[0] - alone[1]).max() > 1


def test_photos_and_class_images_are_weighted_each_by_its_own_noise(model: Any, store: Path) -> None:
    """With min-SNR, the loss is the mean over the photos and the mean over the class images, as if each stood alone."""
    settings = replace(SETTINGS, prior_loss_weight=0.5, min_snr_gamma=1.0)
    lesson, batch = lesson_of(model, settings, store), 4
    errors: list[torch.Tensor] = []
    plain = lesson.frozen.per_sample_loss
    lesson.frozen.per_sample_loss = lambda *given: errors.append(plain(*given)) or errors[-1]
    with torch.no_grad():
        loss = lesson.loss(torch.tensor([0, 1, 0, 1]), StepRNG(0, 0, batch))
        assert errors[0].shape == (2 * batch,)
        assert float(loss) == pytest.approx(float(errors[0][:batch].mean() + 0.5 * errors[0][batch:].mean()))
        halves = [StepRNG(0, 0, batch, part) for part in (slice(0, 2), slice(2, 4))]
        apart = [float(lesson.loss(torch.tensor([0, 1]), half)) for half in halves]
    assert sum(apart) / 2 == pytest.approx(float(loss), rel=1e-5)


def test_without_the_prior_no_class_image_is_drawn(model: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.methods.dreambooth.data.sample", lambda *_: pytest.fail("drew"))
    lesson = lesson_of(model, replace(SETTINGS, prior_loss_weight=0.0), store)
    assert float(lesson.loss(torch.tensor([0]), StepRNG(0, 0, 1)).detach()) > 0


def test_class_images_are_drawn_once_for_each_model_and_noun(model: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compute_class_moments(SETTINGS, model, FrozenDiffusion(model.pipeline), ArrayCache(store))
    assert first.shape == (3, 2, 8, 16, 16)
    drawn: list[str] = []
    monkeypatch.setattr(
        "tenth.methods.dreambooth.data.sample",
        lambda batch: drawn.extend(batch.prompts) or sample(batch),
    )
    assert torch.equal(compute_class_moments(SETTINGS, model, FrozenDiffusion(model.pipeline), ArrayCache(store)), first)
    assert drawn == []
    compute_class_moments(replace(SETTINGS, class_noun="woman"), model, FrozenDiffusion(model.pipeline), ArrayCache(store))
    assert len(drawn) == 3
    assert all(prompt.endswith(" a woman") for prompt in drawn)


def test_the_best_checkpoint_is_kept_and_chosen_by_a_photo_that_is_not_trained_on(model: Any) -> None:
    asked: list[Any] = []
    kept: dict[str, torch.Tensor] = {}

    def opened(__: Any, given: list[Any], held_out: list[Any], drawing: CheckpointImages, _: Path) -> Any:
        asked.extend([len(given), len(held_out), *drawing.prompts[:1]])

        def choose(seen: int) -> tuple[bool, dict[str, float]]:
            if seen == 8:
                kept.update(
                    {name: value.clone() for name, value in model.pipeline.unet.state_dict().items() if "lora_A" in name}
                )
            return seen == 8, {"person/held-out photos": 0.5}

        return choose

    identity = DreamBooth("dreambooth-lora", SETTINGS, opened)(person(1, 2, 3, 4, 5), model).identity
    assert asked == [4, 1, f"a photo of a {identity.trigger_phrase}"]
    assert len(identity.photos) == 5
    assert len(kept) == sum("lora_A" in name for name in identity.weights)
    assert all(torch.equal(value, identity.weights[f"unet.{name.replace('.person', '')}"]) for name, value in kept.items())
    asked.clear()
    DreamBooth("dreambooth-lora", SETTINGS, opened)(person(1, 2, 3, 4), model)
    assert asked == []  # of four photos none is held out


def test_interrupted_it_goes_on_where_it_stopped(model: Any, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = DreamBooth("dreambooth-lora", SETTINGS)
    unbroken = method(person(1, 2), model).identity
    monkeypatch.setenv("TENTH_CACHE_DIR", str(store := store / "another"))
    steps, plain = iter(range(100)), FrozenDiffusion.per_sample_loss

    def interrupting(self: FrozenDiffusion, *given: Any) -> torch.Tensor:
        if next(steps) == 1:
            signal.raise_signal(signal.SIGINT)
        return plain(self, *given)

    monkeypatch.setattr(FrozenDiffusion, "per_sample_loss", interrupting)
    with pytest.raises(KeyboardInterrupt, match="same command goes on"):
        method(person(1, 2), model)
    assert len(list(store.glob("dreambooth/*/step-00000002"))) == 1
    resumed = method(person(1, 2), model).identity
    assert next(steps) == 3  # two steps before, one after
    assert all(torch.equal(value, resumed.weights[name]) for name, value in unbroken.weights.items())
    assert not list(store.glob("dreambooth/*/step-*"))
    again = method(person(2, 1), model).identity  # what was learnt is at hand, in whatever order the photos come
    assert next(steps) == 4
    assert all(torch.equal(value, again.weights[name]) for name, value in unbroken.weights.items())
    (learnt,) = store.glob("dreambooth/*/trained.safetensors")
    learnt.write_bytes(b"half")
    again = method(person(1, 2), model).identity
    assert all(torch.equal(value, again.weights[name]) for name, value in unbroken.weights.items())


def test_an_error_in_the_middle_leaves_the_model_as_it_was(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: value.clone() for name, value in model.pipeline.unet.state_dict().items()}
    monkeypatch.setattr(FrozenDiffusion, "per_sample_loss", lambda *_: torch.full((8,), torch.nan, requires_grad=True))
    for lora in (SETTINGS.lora, None):
        with pytest.raises(DataError, match="the loss is nan"):
            DreamBooth("dreambooth", replace(SETTINGS, lora=lora))(person(1, 2), model)
        after = model.pipeline.unet.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_layers_that_are_not_there_are_said_and_the_model_stays(model: Any) -> None:
    before = list(model.pipeline.unet.state_dict())
    with pytest.raises(RecipeError, match="no layer of UNet2DConditionModel ends in to_x or to_y"):
        DreamBooth("dreambooth-lora", replace(SETTINGS, lora=LoraSettings(target_modules=("to_x", "to_y"))))(person(1), model)
    assert list(model.pipeline.unet.state_dict()) == before


def words(**lengths: float) -> Any:
    """A pipeline that knows these words, with embeddings of these lengths."""
    vocabulary = {f"{word}</w>": number for number, word in enumerate(lengths)}

    def tokens(word: str, **_: Any) -> Any:
        return SimpleNamespace(input_ids=[vocabulary.get(f"{word.strip()}</w>", -1)])

    tokens.get_vocab = lambda: vocabulary  # type: ignore[attr-defined]
    weight = torch.tensor(list(lengths.values()))[:, None]
    return SimpleNamespace(
        tokenizer=tokens, text_encoder=SimpleNamespace(get_input_embeddings=lambda: SimpleNamespace(weight=weight))
    )


def test_the_rare_word_is_the_least_trained_that_means_nothing() -> None:
    assert find_rare_token(words(person=0.1, sks=3.0, zwx=1.0, kcd=2.0, cat=0.2, x=0.5)) == "zwx"
    with pytest.raises(ModelError, match="none of the 2 whole words"):
        find_rare_token(words(person=1.0, photo=1.0))


def test_a_class_that_a_small_model_does_not_know_is_refused(model: Any) -> None:
    check_noun(model.pipeline.tokenizer, "woman")
    with pytest.raises(RecipeError, match="'dog', which this model has never seen"):
        DreamBooth("dreambooth-lora", replace(SETTINGS, class_noun="dog"))(person(1), model)
    with pytest.raises(RecipeError, match="one word in small letters"):
        replace(SETTINGS, class_noun="A man")


def test_few_photos(model: Any) -> None:
    method = DreamBooth("dreambooth-lora", SETTINGS)
    result = method(person(1), model)
    assert result.identity.photos == (f"{1:064x}",)
    assert "trained on one photo" in result.warnings[0]
    warnings = method(person(1, 2), model).warnings
    assert warnings[0] == (f'in a prompt the person is "{find_rare_token(model.pipeline)} person", which is put in by itself')
    assert warnings[1].startswith("the history of the training is in ")
    with pytest.raises(DataError, match="no usable photo"):
        method(Person("anna", ()), model)
