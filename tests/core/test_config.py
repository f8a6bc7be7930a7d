from __future__ import annotations

from pathlib import Path

import pytest

from tenth.core.config import from_table, read_toml, with_overrides
from tenth.core.errors import RecipeError
from tenth.training.pocket.autoencoder import AutoencoderRecipe
from tenth.training.pocket.decoder import DecoderRecipe
from tenth.training.pocket.diffusion import DiffusionRecipe

RECIPES = Path(__file__).parents[2] / "recipes"
BASE = {"data": {"people": "p.jsonl", "photos": "photos"}, "autoencoder": "a.safetensors", "schedule": {"total_images": 10}}


def test_nested_tables_become_dataclasses() -> None:
    recipe = from_table(DiffusionRecipe, BASE | {"conditioning_dropout": {"p_no_adapter": 0}})
    assert recipe.data.people == Path("p.jsonl")
    assert recipe.conditioning_dropout.p_no_adapter == 0.0
    assert recipe.schedule.total_images == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stepz": 3},
            "'stepz'; known keys: data, autoencoder, schedule, conditioning_dropout, init_from, min_snr_gamma",
        ),
        ({"schedule": {"total_images": "many"}}, "schedule, total_images is 'many'; needed: int"),
        ({"schedule": {"total_images": 10, "seed": True}}, "seed is True; needed: int"),
        ({"schedule": {}}, "has no key 'total_images'"),
    ],
)
def test_wrong_keys_and_values_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        from_table(DiffusionRecipe, BASE | change)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("stage = ")
    with pytest.raises(RecipeError, match="is not TOML"):
        read_toml(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[schedule]\nbatch_size = -1", "schedule, batch_size is -1; needed: a whole number from 0"),
        ("[synthetic]\nseed = -5", "synthetic, seed is -5; needed"),
        ("num_impostors = [0, -1]", "num_impostors, 2 is -1; needed"),
        ("min_snr_gamma = -0.5", r"min_snr_gamma is -0\.5; needed: a number from 0 to 1e\+09"),
        ("min_snr_gamma = 1e308", r"min_snr_gamma is 1e\+308; needed"),
        ("min_snr_gamma = nan", "min_snr_gamma is nan; needed"),
        ("[schedule]\nlearning_rate = inf", "schedule, learning_rate is inf; needed"),
    ],
)
def test_numbers_that_no_recipe_needs_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(RecipeError, match=f"recipe.toml, {said}"):
        read_toml(tmp_path / "recipe.toml")


def test_the_shipped_recipes_can_be_read() -> None:
    assert from_table(AutoencoderRecipe, read_toml(RECIPES / "pocket-autoencoder.toml")).stage == "autoencoder"
    for name in (
        "pocket-diffusion.toml",
        "pocket-diffusion-2.toml",
        "pocket-diffusion-3.toml",
        "pocket-diffusion-4.toml",
        "pocket-base.toml",
    ):
        assert from_table(DiffusionRecipe, read_toml(RECIPES / name)).stage == "base-model"
    assert from_table(DecoderRecipe, read_toml(RECIPES / "pocket-decoder.toml")).stage == "decoder"


def test_what_a_table_says_stands_above_the_settings() -> None:
    before = from_table(DiffusionRecipe, BASE)
    after = with_overrides(before, {"min_snr_gamma": 1, "schedule": {"batch_size": 4}})
    assert (after.min_snr_gamma, after.schedule.batch_size, after.schedule.total_images) == (1.0, 4, 10)
    assert before.schedule.batch_size != 4
    with pytest.raises(RecipeError, match=r"the recipe, schedule has the key 'bach'; known keys: total_images, batch_size"):
        with_overrides(before, {"schedule": {"bach": 4}})
    with pytest.raises(RecipeError, match="the recipe, schedule is 3; needed: TrainingConfig"):
        with_overrides(before, {"schedule": 3})
