"""What a person is said to be while DreamBooth learns, and recipes that change its settings."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.cache import ArrayCache
from tenth.core.config import read_toml
from tenth.core.errors import RecipeError
from tenth.core.rng import StepRNG
from tenth.core.types import Person, Photo
from tenth.methods.dreambooth.data import DreamBoothData, DreamBoothSettings, classify_noun, fill_prompt, prepare_data
from tenth.methods.dreambooth.lora import LoraSettings
from tenth.methods.dreambooth.method import DreamBooth
from tenth.methods.registry import method
from tenth.models.prompt_encoder import PromptEmbeddings
from tenth.sampling.config import SamplingConfig
from tenth.training.frozen_diffusion import FrozenDiffusion
from tenth.training.schedule import TrainingConfig

RECIPES = Path(__file__).parents[2] / "recipes"
SETTINGS = DreamBoothSettings(
    TrainingConfig(total_images=12, batch_size=4),
    LoraSettings(rank=2),
    class_noun="person",
    prompts=("a photo of a {person}", "a photo of a smiling {person}"),
    num_class_images=4,
    sampling=SamplingConfig(steps=1),
)


def lesson_of(model: Any, cache: Path, **changes: Any) -> DreamBoothData:
    photo = Photo(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8), "0" * 64)
    return prepare_data([photo], "wn", replace(SETTINGS, **changes), model, FrozenDiffusion(model.pipeline), ArrayCache(cache))


def test_prompts_name_the_person_and_the_class(toy_model: Any, tmp_path: Path) -> None:
    assert fill_prompt("a portrait of a {person}, outdoors", "wn woman") == "a portrait of a wn woman, outdoors"
    assert fill_prompt("a photo of a {person}", "adult") == "a photo of an adult"
    assert lesson_of(toy_model, tmp_path).prompts == (
        "a photo of a wn person", "a photo of a smiling wn person", "a photo of a person", "a photo of a smiling person",
    )  # fmt: skip
    others = lesson_of(toy_model, tmp_path, class_prompts=("a portrait of a {person}",)).prompts
    assert others[2:] == ("a portrait of a person",)
    for prompts, needed in (
        ((), "one or more"),
        (("a photo",), "a prompt with one {person}"),
        (("a {person}" * 2,), "one {person}"),
    ):
        with pytest.raises(RecipeError, match=re.escape(needed)):
            replace(SETTINGS, prompts=prompts)


def test_a_class_image_comes_with_the_prompt_that_it_was_drawn_from(toy_model: Any, tmp_path: Path) -> None:
    lesson, read = lesson_of(toy_model, tmp_path), []
    object.__setattr__(lesson, "class_moments", torch.arange(4.0).view(4, 1, 1, 1, 1).expand_as(lesson.class_moments).clone())
    images_seen: list[torch.Tensor] = []
    plain, latents = lesson.frozen.per_sample_loss, lesson.frozen.sample_latents
    lesson.frozen.sample_latents = lambda moments, draws: images_seen.append(moments) or latents(moments, draws)
    lesson.frozen.per_sample_loss = lambda values, texts, *more: read.append(texts) or plain(values, texts, *more)
    with torch.no_grad():
        lesson.loss(torch.zeros(16, dtype=torch.long), StepRNG(0, 0, 16))
    which = images_seen[0][16:, 0, 0, 0].long()
    assert set(which.tolist()) == {0, 1, 2, 3}
    assert torch.equal(read[0].hidden[16:], lesson.prompt_embeddings.hidden[2 + which % 2])


def test_a_recipe_changes_settings_of_a_method(toy_model: Any, tmp_path: Path) -> None:
    path = tmp_path / "woman.toml"
    path.write_text(
        'method = "dreambooth-lora"\nclass_noun = "woman"\nprior_loss_weight = 0\n'
        "[lora]\nrank = 4\n[schedule]\ntotal_images = 40\n"
    )
    changed, plain = (method(name).settings_for(toy_model) for name in (str(path), "dreambooth-lora"))
    assert (changed.class_noun, changed.prior_loss_weight, changed.lora.rank, changed.schedule.total_images) == (
        "woman",
        0.0,
        4,
        40,
    )
    assert changed.lora.target_modules == plain.lora.target_modules
    assert changed.schedule.learning_rate == plain.schedule.learning_rate


def test_the_shipped_recipes_of_methods_are_read(toy_model: Any) -> None:
    paths = [path for path in sorted(RECIPES.glob("*.toml")) if "method" in read_toml(path)]
    assert [path.stem for path in paths] == [
        "dreambooth-apart",
        "dreambooth-lora-woman",
        "flux2-klein-dreambooth-lora",
        "sd15-dreambooth-lora",
        "sdxl-dreambooth-lora",
    ]
    for path in paths:
        assert (method(str(path)).settings_for(toy_model).lora is None) == (path.stem == "dreambooth-apart")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('class_noun = "woman"', "has method None; one of dreambooth, dreambooth-lora is needed"),
        ('method = "ip-adapter"', "has method 'ip-adapter'"),
        (
            'method = "dreambooth-lora"\nclass_nown = "woman"',
            "'class_nown' is not a key; known keys: schedule, lora, train_text_encoder, class_noun",
        ),
        ('method = "dreambooth"\n[lora]\nrank = 4', r"has \[lora\]; dreambooth changes all weights"),
        (
            'method = "dreambooth"\n[schedule]\ntotal_images = "many"',
            "schedule.total_images is 'many'; needed: a valid integer",
        ),
    ],
)
def test_wrong_recipes_of_a_method(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(RecipeError, match=message):
        method(str(tmp_path / "wrong.toml"))


class Judging(FrozenDiffusion):
    """Predicts each photo best under the noun whose number it was given: photo number -> noun number."""

    def __init__(self, pipeline: Any, best: list[int]) -> None:
        super().__init__(pipeline)
        self.best = best

    def sample_latents(self, moments: torch.Tensor, rng: StepRNG) -> torch.Tensor:
        return moments

    def encode_prompts(self, prompts: Any, *, with_gradients: bool = False) -> PromptEmbeddings:
        return PromptEmbeddings(torch.arange(float(len(prompts)))[:, None, None])

    def per_sample_loss(self, latents: torch.Tensor, texts: PromptEmbeddings, *_: Any) -> torch.Tensor:
        best = torch.tensor(self.best)[latents[:, 0, 0, 0].long()]
        return (texts.hidden[:, 0, 0] != best).float()


@pytest.mark.parametrize(
    ("best", "noun"),
    [([0] * 9, "man"), ([1] * 9, "woman"), ([1] * 7 + [0] * 2, "woman"), ([1] * 6 + [0] * 3, "person"), ([0], "man")],
)
def test_the_noun_is_the_one_under_which_most_photos_are_predicted_best(toy_model: Any, best: list[int], noun: str) -> None:
    numbers = torch.arange(float(len(best)))[:, None, None, None]
    assert classify_noun(numbers, Judging(toy_model.pipeline, best)) == noun


def test_a_noun_is_guessed_once_and_said(toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path))
    photos = [Photo(np.full((8, 8, 3), shade, np.uint8), f"{shade:064x}") for shade in (9, 99, 9)]
    asked = []
    monkeypatch.setattr("tenth.methods.dreambooth.data.classify_noun", lambda moments, _: asked.append(len(moments)) or "woman")
    learn = DreamBooth("dreambooth-lora", replace(SETTINGS, class_noun=""))
    results = [learn(Person("anna", tuple(chosen)), toy_model) for chosen in (photos, photos[1:])]
    assert all(result.identity.trigger_phrase.endswith(" woman") for result in results)
    assert asked == [2]
    assert "woman is the model's guess; `class_noun` of a recipe sets it" in results[0].warnings[0]
