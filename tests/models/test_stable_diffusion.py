"""Adapters for Stable Diffusion's families: real layouts, tiny random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
)
from safetensors.torch import load_file, save_file

from tenth.core.errors import ModelError
from tenth.core.rng import StepRNG
from tenth.core.types import Person, Photo
from tenth.methods.combined import CombinedMethod
from tenth.methods.dreambooth.checkpoint_selection import build_selector
from tenth.methods.dreambooth.data import DreamBoothSettings
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.export import export_lora
from tenth.methods.registry import method
from tenth.models.adapters.ip_adapter import ip_adapter_state_dict
from tenth.models.pipelines import load_pipeline
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.training.adapter.synthetic_data import SyntheticPeople
from tenth.training.adapter.trainer import AdapterRecipe, train_adapter
from tenth.training.diffusion_loss import min_snr_weight
from tenth.training.frozen_diffusion import FrozenDiffusion, frozen_diffusion
from tenth.training.schedule import TrainingConfig


@pytest.fixture
def folder(stable_folder: Path) -> Path:
    return stable_folder


def person(count: int) -> Person:
    random = np.random.default_rng(0)
    pixels = [random.integers(0, 255, (40, 60, 3), dtype=np.uint8) for _ in range(count)]
    return Person("anna", tuple(Photo(picture, f"{number:064x}") for number, picture in enumerate(pixels)))


def test_train_then_draw(folder: Path, tmp_path: Path) -> None:
    schedule = TrainingConfig(
        total_images=8,
        batch_size=4,
        gradient_accumulation_steps=2,
        warmup_images=0,
        ema_halflife_images=8,
        checkpoint_every_images=4,
    )
    recipe = AdapterRecipe("attention", synthetic=SyntheticPeople(2, 10), schedule=schedule, gradient_checkpointing=True)
    train_adapter(recipe, load_model(str(folder)), tmp_path)
    model = load_model(str(folder))
    identity = method(str(tmp_path / "final"))(person(3), model).identity
    (sample,) = generate(model, [Request(identity, "a photo of a person", 1)], SamplingConfig(steps=2))
    assert sample.pixels.shape == (16, 16, 3)
    (same,) = generate(model, [Request(identity, "a photo of a person", 1)], SamplingConfig(steps=2))
    assert np.array_equal(sample.pixels, same.pixels)


def test_diffusers_takes_the_adapter(folder: Path, tmp_path: Path) -> None:
    schedule = TrainingConfig(total_images=4, batch_size=4, warmup_images=0)
    model = load_model(str(folder))
    train_adapter(AdapterRecipe("attention", synthetic=SyntheticPeople(2, 10), schedule=schedule), model, tmp_path)
    pipeline = load_pipeline(folder)
    pipeline.load_ip_adapter(
        str(tmp_path / "final"), subfolder="", weight_name="ip-adapter.safetensors", image_encoder_folder=None
    )
    written = load_file(tmp_path / "final" / "ip-adapter.safetensors")
    assert all(torch.equal(tensor, written[name].float()) for name, tensor in ip_adapter_state_dict(pipeline.unet).items())
    assert model.pipeline.unet.encoder_hid_proj is None  # the model is without it again
    assert not any("_ip." in name for name in model.pipeline.unet.state_dict())


@pytest.fixture
def frozen(folder: Path) -> Iterator[FrozenDiffusion]:
    model = load_model(str(folder))
    with frozen_diffusion(model.pipeline, model.adapter_parts) as opened:
        yield opened


def test_exactly_the_adapter_learns(frozen: FrozenDiffusion) -> None:
    latents = frozen.sample_latents(frozen.encode_pixels(torch.rand(2, 3, 16, 16)), StepRNG(0, 0, 2))
    texts = frozen.encode_prompts(["a man", "a woman"])
    frozen.per_sample_loss(latents, texts, torch.randn(2, 9, 24), StepRNG(0, 1, 2)).mean().backward()
    wants = {name for name, parameter in frozen.unet.named_parameters() if parameter.requires_grad}
    assert wants == {name for name, _ in frozen.unet.named_parameters() if "_ip." in name or "encoder_hid_proj" in name}
    assert wants == {name for name, parameter in frozen.unet.named_parameters() if parameter.grad is not None}


def test_gradient_checkpointing_gives_the_same_gradients(frozen: FrozenDiffusion) -> None:
    found = []
    for checkpointing in (False, True):
        frozen.unet.zero_grad()
        texts = frozen.encode_prompts(["a man", "a woman"])
        embeddings = StepRNG(0, 2, 2).normal(1, 24)
        with frozen.gradient_checkpointing(checkpointing):
            assert frozen.unet.is_gradient_checkpointing == checkpointing
            frozen.per_sample_loss(StepRNG(0, 0, 2).normal(4, 8, 8), texts, embeddings, StepRNG(0, 1, 2)).mean().backward()
        found.append({name: value.grad for name, value in frozen.unet.named_parameters() if value.grad is not None})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


def test_frozen_layers_in_autocast_s_precision_give_the_same_loss_and_gradients(frozen: FrozenDiffusion) -> None:
    found = []
    before = {name: value.clone() for name, value in frozen.unet.state_dict().items()}
    texts = frozen.encode_prompts(["a man", "a woman"])
    for precision in (torch.float32, torch.bfloat16):
        frozen.unet.zero_grad()
        with frozen.cast_frozen_weights(precision), torch.autocast("cpu", torch.bfloat16):
            assert frozen.unet.conv_in.weight.dtype == precision
            people = StepRNG(0, 2, 2).normal(1, 24)
            loss = frozen.per_sample_loss(StepRNG(0, 0, 2).normal(4, 8, 8), texts, people, StepRNG(0, 1, 2)).mean()
            loss.backward()
        gradients = {name: value.grad for name, value in frozen.unet.named_parameters() if value.grad is not None}
        found.append({"loss": loss.detach()} | gradients)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    with pytest.raises(ZeroDivisionError), frozen.cast_frozen_weights(torch.bfloat16):
        _ = 1 / 0
    after = frozen.unet.state_dict()
    assert all(torch.equal(value, after[name]) and value.dtype == after[name].dtype for name, value in before.items())


def test_the_loss_is_a_function_of_its_draws(frozen: FrozenDiffusion) -> None:
    latents, texts = StepRNG(0, 0, 4).normal(4, 8, 8), frozen.encode_prompts(["a man"] * 4)
    embeddings = StepRNG(0, 2, 4).normal(1, 24)

    def loss(step: int, rows: slice) -> float:
        part = PromptEmbeddings(texts.hidden[rows], None if texts.pooled is None else texts.pooled[rows])
        with torch.no_grad():
            return float(frozen.per_sample_loss(latents[rows], part, embeddings[rows], StepRNG(0, step, 4, rows)).mean())

    whole = slice(0, 4)
    assert loss(1, whole) == loss(1, whole)
    assert loss(1, whole) != loss(2, whole)
    halves = [loss(1, slice(0, 2)), loss(1, slice(2, 4))]
    assert sum(halves) / 2 == pytest.approx(loss(1, whole), rel=1e-5)


def test_prompts_are_encoded_as_the_text_encoders_themselves_do(frozen: FrozenDiffusion) -> None:
    prompts = ["a man", "a smiling woman"]
    pipeline, texts = frozen.pipeline, frozen.encode_prompts(prompts)
    given = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    tokens = pipeline.tokenizer(prompts, max_length=pipeline.tokenizer.model_max_length, **given).input_ids
    with torch.no_grad():
        first = pipeline.text_encoder(tokens, output_hidden_states=True)
        if not frozen.has_pooled_text:
            torch.testing.assert_close(texts.hidden, first.last_hidden_state)
            assert texts.pooled is None
            return
        second = pipeline.text_encoder_2(tokens, output_hidden_states=True)
    torch.testing.assert_close(texts.hidden, torch.cat([first.hidden_states[-2], second.hidden_states[-2]], -1))
    torch.testing.assert_close(texts.pooled, second.text_embeds)


def test_several_people_in_one_batch_do_not_mix(folder: Path) -> None:
    model = load_model(str(folder))
    made = method("ip-adapter")(person(1), model).identity
    people = [replace(made, embeddings=StepRNG(0, step, 1).normal(24) * 30) for step in (1, 2)]
    requests = [Request(identity, "a photo of a person", 5) for identity in people]
    both = [sample.pixels.astype(int) for sample in generate(model, requests, SamplingConfig(steps=2))]
    alone = [next(generate(model, [request], SamplingConfig(steps=2))).pixels.astype(int) for request in requests]
    assert all(np.abs(one - other).max() <= 1 for one, other in zip(both, alone, strict=True))
    assert np.abs(both[0] - both[1]).max() > 1


@pytest.mark.slow
def test_a_person_is_fine_tuned_and_diffusers_reads_the_lora(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    model, few = load_model(str(folder)), SamplingConfig(steps=2, guidance_scale=2.0, guidance_rescale=0.0)
    schedule = TrainingConfig(
        total_images=4, batch_size=2, warmup_images=0, ema_halflife_images=2, checkpoint_every_images=2, learning_rate=0.1
    )
    settings = DreamBoothSettings(
        schedule, train_text_encoder=True, num_class_images=2, sampling=few, gradient_checkpointing=True
    )
    identity = DreamBooth("dreambooth-lora", settings, build_selector)(person(6), model).identity
    assert {name.partition(".")[0] for name in identity.weights} >= {"unet", "text_encoder"}
    (sample,) = generate(model, [Request(identity, "a photo of a person", 1)], few)
    export_lora(identity, tmp_path / "lora/lora.safetensors")
    pipeline = load_pipeline(folder)
    pipeline.load_lora_weights(tmp_path / "lora", weight_name="lora.safetensors")
    given = {
        "num_inference_steps": 2,
        "guidance_scale": 2.0,
        "generator": torch.Generator().manual_seed(1),
        "output_type": "np",
    }
    drawn = pipeline(f"a photo of a {identity.trigger_phrase}", negative_prompt="", **given).images[0]
    assert np.abs(np.rint(drawn * 255) - sample.pixels).max() <= 1
    (plain,) = generate(model, [Request(None, "a photo of a person", 1)], few)
    other = load_model(str(folder), lora=tmp_path / "lora/lora.safetensors")
    assert other.name != model.name
    (same,) = generate(other, [Request(None, f"a photo of a {identity.trigger_phrase}", 1)], few)
    assert np.abs(same.pixels.astype(int) - sample.pixels).max() <= 1
    assert np.abs(plain.pixels.astype(int) - sample.pixels).max() > 1


def test_a_person_is_fine_tuned_while_the_adapter_is_on(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    model, few = load_model(str(folder)), SamplingConfig(steps=1)
    schedule = TrainingConfig(total_images=2, batch_size=2, warmup_images=0, checkpoint_every_images=2)
    settings = DreamBoothSettings(
        schedule, class_noun="person", num_class_images=1, sampling=few, gradient_checkpointing=True, with_adapter=True
    )
    pair = CombinedMethod(DreamBooth("dreambooth-lora", settings, build_selector), method("ip-adapter-avg"))
    identity = pair(person(6), model).identity
    assert identity.weights
    assert not any("_ip" in name or "encoder_hid_proj" in name for name in identity.weights)
    assert next(generate(model, [Request(identity, "a photo of a person", 1)], few)).pixels.any()


def test_a_lora_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    save_file({"unet.nothing.lora_A.weight": torch.ones(2, 2)}, tmp_path / "other.safetensors")
    (tmp_path / "half.safetensors").write_bytes(b"half")
    for name, said in {
        "other": "has not both matrices",
        "half": "damaged or not safetensors",
        "none": "does not exist",
    }.items():
        with pytest.raises(ModelError, match=said):
            load_model(str(folder), lora=tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match="a LoRA is for Stable Diffusion's families"):
        load_model("pocket", lora=tmp_path / "other.safetensors")


def test_latents_are_drawn_around_the_cached_mean(frozen: FrozenDiffusion) -> None:
    moments = torch.cat([torch.full((4000, 4, 1, 1), 2.0), torch.full((4000, 4, 1, 1), -2.0)], 1)
    latents = frozen.sample_latents(moments, StepRNG(0, 0, 4000)) / frozen.pipeline.vae.config.scaling_factor
    assert float(latents.mean()) == pytest.approx(2.0, abs=0.02)
    assert float(latents.std()) == pytest.approx(float(np.exp(-1.0)), abs=0.02)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_min_snr_weights_the_error_of_the_image(kind: str) -> None:
    kept = DDIMScheduler().alphas_cumprod
    snr = kept / (1 - kept)
    per_image = {"epsilon": 1 / snr, "v_prediction": 1 / (snr + 1), "sample": torch.ones_like(snr)}[kind]  # of a unit error
    weight = min_snr_weight(snr, kind, 5.0)
    wanted = snr.clamp(max=5.0) * per_image
    torch.testing.assert_close(weight, wanted.clamp(min=0.1) if kind == "v_prediction" else wanted)
    assert torch.isfinite(min_snr_weight(torch.tensor([0.0]), kind, 5.0)).all()
    assert torch.equal(min_snr_weight(snr, kind, 0.0), torch.ones_like(snr))


def test_what_is_missing_or_of_another_kind_is_said(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "ip-adapter/ip-adapter.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no ip-adapter/ip-adapter\.safetensors"):
        load_model(str(copy))
    shutil.copyfile(folder / "ip-adapter/ip-adapter.safetensors", copy / "ip-adapter/ip-adapter.safetensors")
    (copy / "image_encoder/model.safetensors").write_bytes(b"half")
    with pytest.raises(ModelError, match=r"image_encoder\S* is damaged"):
        load_model(str(copy))
    index = json.loads((copy / "model_index.json").read_text()) | {"_class_name": "FluxPipeline"}
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="is a FluxPipeline; one of StableDiffusionPipeline"):
        load_pipeline(copy)
    for text, said in {"{": "model_index.json is not JSON", "[]": "model_index.json is no table"}.items():
        (copy / "model_index.json").write_text(text)
        with pytest.raises(ModelError, match=said):
            load_pipeline(copy)


def test_parts_that_are_not_used_are_not_loaded(folder: Path, tmp_path: Path) -> None:
    """The published folders list a safety checker, or an image encoder, which the model reads by itself."""
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    index = json.loads((copy / "model_index.json").read_text())
    index |= {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    index |= {"feature_extractor": ["transformers", "CLIPImageProcessor"]}
    if index["_class_name"] == "StableDiffusionPipeline":
        index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    (copy / "model_index.json").write_text(json.dumps(index))
    pipeline = load_model(str(copy)).pipeline
    assert pipeline.image_encoder is None
    assert getattr(pipeline, "safety_checker", None) is None
