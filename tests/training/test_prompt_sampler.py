"""Which captions are prompts of sampled images, and of whom they are asked."""

from __future__ import annotations

import pytest
import torch

from tenth.core.errors import DataError
from tenth.data.captions.prompt_parser import FACE_ATTRIBUTES
from tenth.training.pocket.finetuning.prompts import PromptSampler
from toy_latents import step_rng

CAPTIONS = (
    ("a photo of a smiling man", "a photo of a man"),
    ("a portrait of a man, smiling", "a photo of a person, not smiling"),
    ("a picture of a woman with glasses", "a smiling old woman with glasses and gray hair, without a hat"),
    ("a photo of a person", "a photo of a person, outdoors"),
)


def test_captions_say_what_is_asked() -> None:
    requested = PromptSampler.from_captions(CAPTIONS, FACE_ATTRIBUTES).requested
    male, smiling, glasses = (requested[:, :, FACE_ATTRIBUTES.index(name)] for name in ("male", "smiling", "eyeglasses"))
    assert male.nan_to_num(-1).tolist() == [[1, 1], [1, -1], [0, 0], [-1, -1]]
    assert smiling.nan_to_num(-1).tolist() == [[1, -1], [1, 0], [-1, 1], [-1, -1]]
    assert glasses.nan_to_num(-1).tolist() == [[-1, -1], [-1, -1], [1, 1], [-1, -1]]


def test_each_thing_is_asked_as_often_and_nothing_is_too() -> None:
    prompts = PromptSampler.from_captions(CAPTIONS, FACE_ATTRIBUTES)
    photos, variants = prompts.captions(step_rng(1_000))
    drawn = [CAPTIONS[photo][variant] for photo, variant in zip(photos.tolist(), variants.tolist(), strict=True)]
    groups = [
        {"a photo of a smiling man", "a portrait of a man, smiling"},
        {"a photo of a person, not smiling"},
        {"a picture of a woman with glasses"},
        {"a photo of a person, outdoors"},
        {"a photo of a man", "a photo of a person"},
    ]
    assert all(150 < sum(caption in group for caption in drawn) < 250 for group in groups)
    # Who is asked for five things learns each a little.
    assert "a smiling old woman with glasses and gray hair, without a hat" not in drawn


def test_what_is_hard_is_asked_more_often() -> None:
    prompts = PromptSampler.from_captions(CAPTIONS, FACE_ATTRIBUTES, hard=("eyeglasses", "smiling"), hard_weight=4)
    photos, variants = prompts.captions(step_rng(1_100))  # 4 of 11 glasses, 4 smiling, and 1 each of three other things
    drawn = [CAPTIONS[photo][variant] for photo, variant in zip(photos.tolist(), variants.tolist(), strict=True)]
    assert 330 < drawn.count("a picture of a woman with glasses") < 470
    assert 330 < sum("smiling" in caption and "not" not in caption for caption in drawn) < 470
    assert 50 < drawn.count("a photo of a person, not smiling") < 150


def test_who_is_asked_has_the_gender_of_the_prompt() -> None:
    photos = torch.tensor([0] * 50 + [2] * 50 + [3] * 200)
    for prompts in (PromptSampler.from_captions(CAPTIONS, known) for known in (FACE_ATTRIBUTES, {"smiling"})):
        people = prompts.other_people(photos, step_rng(300))
        assert set(people[:50].tolist()) == {0, 1}
        assert set(people[50:100].tolist()) == {2}
        assert set(people[100:].tolist()) == {0, 1, 2, 3}


def test_nothing_is_asked_of_what_cannot_be_told() -> None:
    prompts = PromptSampler.from_captions(CAPTIONS, {"male", "smiling"})
    assert prompts.requested[:, :, FACE_ATTRIBUTES.index("eyeglasses")].isnan().all()
    assert len(prompts.tables) == 3  # smiling, not smiling, and nothing
    with pytest.raises(DataError, match=r"no caption of 1 photos requests one to three of bald.*people whose captions"):
        PromptSampler.from_captions([("a photo of a person",)], FACE_ATTRIBUTES)
    with pytest.raises(DataError, match=r"no caption of 4 photos requests one to three of male; .*train the heads longer"):
        PromptSampler.from_captions(CAPTIONS, {"male"})
    with pytest.raises(DataError, match=r"no caption of 4 photos requests hat; .*train the heads longer"):
        PromptSampler.from_captions(CAPTIONS, FACE_ATTRIBUTES, hard=("smiling", "hat"), hard_weight=2)
