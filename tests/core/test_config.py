from __future__ import annotations

import datetime as dt
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tenth.core.config import config_dataclass, from_table, read_toml, to_table, with_overrides
from tenth.core.errors import RecipeError
from tenth.data.faces.crops import PhotoDataset
from tenth.experiments.recipe import ExperimentRecipe
from tenth.methods.registry import method
from tenth.training.adapter.trainer import AdapterRecipe
from tenth.training.pocket.diffusion import DiffusionRecipe
from tenth.training.registry import stage

RECIPES = Path(__file__).parents[2] / "recipes"
BASE = {"data": {"people": "p.jsonl", "photos": "photos"}, "autoencoder": "a.safetensors", "schedule": {"total_images": 10}}
DATA = {"split": "test", "data": BASE["data"]}


def test_nested_tables_become_dataclasses() -> None:
    recipe = from_table(DiffusionRecipe, BASE | {"conditioning_dropout": {"p_no_adapter": 0}})
    assert recipe.data == PhotoDataset(Path("p.jsonl"), Path("photos"))
    assert type(recipe.conditioning_dropout.p_no_adapter) is float
    assert recipe.schedule.total_images == 10
    assert from_table(DiffusionRecipe, to_table(recipe)) == recipe
    assert from_table(DiffusionRecipe, BASE | {"init_from": "~/model"}).init_from == Path.home() / "model"


@pytest.mark.parametrize(
    ("change", "found", "needed", "action"),
    [
        ({"stepz": 3}, "r.toml: 'stepz' is not a key", "known keys: data, autoencoder, schedule, ", "Correct or remove it"),
        ({"schedul": {}}, "r.toml: 'schedul' is not a key", "known keys: ", "Did you mean schedule? "),
        (
            {"schedule": {"batchsize": 3}},
            "r.toml: 'schedule.batchsize' is not",
            "known keys: total_",
            "Did you mean batch_size? ",
        ),
        ({"schedule": {}}, "r.toml: 'schedule.total_images' is missing", "it has no default", "Add it"),
        ({"schedule": 3}, "r.toml: schedule is 3", "needed: an object", "Correct it"),
        ({"schedule": {"total_images": "many"}}, "r.toml: schedule.total_images is 'many'", "needed: a valid integer", ""),
        ({"schedule": {"total_images": 10, "seed": True}}, "r.toml: schedule.seed is True", "needed: a valid integer", ""),
        ({"schedule": {"total_images": 2.0}}, "r.toml: schedule.total_images is 2.0", "needed: a valid integer", ""),
        ({"schedule": {"total_images": 1, "optimizer": "sgd"}}, "r.toml: schedule.optimizer is 'sgd'", "one of adamw, ", ""),
        (
            {"schedule": {"total_images": 1, "cooldown_images": 2}},
            "r.toml: cooldown_images is 2",
            "at most total_images, 1",
            "",
        ),
        ({"schedule": {"total_images": 1, "extra_ema_halflives_images": [5, 5]}}, "is [5, 5]", "each once", ""),
        ({"conditioning_dropout": {"p_no_text": 1.5}}, "conditioning_dropout.p_no_text is 1.5", "less than or equal to 1", ""),
        ({"conditioning_dropout": {"p_no_text": 0.95}}, "p_no_text is 1.1", "at most 1 together", ""),
        ({"stage": "decoder"}, "r.toml: stage is 'decoder'", "needed: 'base-model'", ""),
        ({"autoencoder": 3}, "r.toml: autoencoder is 3", "needed: a path", ""),
        ({"autoencoder": "a\0"}, "r.toml: autoencoder is 'a\\x00'", "needed: a path", ""),
        ({"autoencoder": "a\ud800"}, "r.toml: half a character", "UTF-8", ""),
        ({"stage": dt.date(2026, 1, 1)}, "r.toml: stage is '2026-01-01'", "needed: 'base-model'", ""),
    ],
)
def test_what_is_wrong_is_said_in_three_parts(change: dict[str, Any], found: str, needed: str, action: str) -> None:
    with pytest.raises(RecipeError) as problem:
        from_table(DiffusionRecipe, BASE | change, "r.toml")
    assert found in problem.value.found
    assert needed in problem.value.needed
    assert action in problem.value.action


def test_keys_within_named_tables_are_named() -> None:
    prompt_sets = {"attributes": {"prompts": ["a"], "images": 1, "method": []}}
    with pytest.raises(RecipeError, match=r"'prompt_sets.attributes.method' is not a key.*images, methods.*mean methods"):
        from_table(ExperimentRecipe, DATA | {"prompt_sets": prompt_sets})
    with pytest.raises(RecipeError, match=r"prompt_sets.attributes.prompts.1 is 3; needed: a valid string"):
        from_table(ExperimentRecipe, DATA | {"prompt_sets": {"attributes": {"prompts": ["a", 3], "images": 1}}})
    with pytest.raises(RecipeError, match=r"prompt_sets.attributes.prompts is \[\]; needed: one or more"):
        from_table(ExperimentRecipe, DATA | {"prompt_sets": {"attributes": {"prompts": [], "images": 1}}})


def test_settings_are_held_to_the_same_however_they_are_made() -> None:
    @config_dataclass
    class Toy:
        count: int
        name: str = ""

    with pytest.raises(RecipeError, match=r"^count is '1'; needed: a valid integer. Correct it.$"):
        Toy("1")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="name is 2"):
        replace(Toy(1), name=2)
    with pytest.raises(RecipeError, match=r"'nam' is not a key; known keys: count, name. Did you mean name"):
        Toy(1, nam="a")  # type: ignore[call-arg]
    with pytest.raises(RecipeError, match="'count' is missing"):
        Toy()  # type: ignore[call-arg]


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("stage = ")
    with pytest.raises(RecipeError, match="is not TOML"):
        read_toml(tmp_path / "bad.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("schedule = {total_images = 1, batch_size = -1}", "schedule.batch_size is -1; needed: greater than or equal to 1"),
        ("[synthetic]\nseed = -5", "synthetic.seed is -5; needed"),
        ("min_snr_gamma = -0.5", r"min_snr_gamma is -0\.5; needed: greater than or equal to 0"),
        ("min_snr_gamma = 1e308", r"min_snr_gamma is 1e\+308; needed: less than or equal to 1000000000"),
        ("min_snr_gamma = nan", "min_snr_gamma is nan; needed: a finite number"),
        ("schedule = {total_images = 1, learning_rate = inf}", "schedule.learning_rate is inf; needed: a finite number"),
    ],
)
def test_numbers_that_no_recipe_needs_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(f'stage = "adapter"\naggregator = "set"\n{text}')
    with pytest.raises(RecipeError, match=f"recipe.toml: {said}"):
        from_table(AdapterRecipe, read_toml(tmp_path / "recipe.toml"), "recipe.toml")


def test_no_number_of_a_recipe_is_without_bounds() -> None:
    """A whole number from 0 or 1, a share, or a number from 0 to 1e9: negative ones are refused everywhere."""
    recipe = from_table(DiffusionRecipe, BASE)
    for settings in (recipe, *(getattr(recipe, each.name) for each in fields(recipe))):
        for each in fields(settings) if hasattr(settings, "__dataclass_fields__") else ():
            if type(getattr(settings, each.name)) in (int, float):
                with pytest.raises(RecipeError, match=f"{each.name} is -1"):
                    replace(settings, **{each.name: -1})


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_read(path: Path) -> None:
    table = read_toml(path)
    if "stage" in table:
        from_table(stage(table).recipe, table, path.name)
    elif "method" in table:
        method(str(path))
    else:
        assert from_table(ExperimentRecipe, table).split == path.stem.rpartition("-")[2]


def test_what_a_table_says_stands_above_the_settings() -> None:
    before = from_table(DiffusionRecipe, BASE)
    after = with_overrides(before, {"min_snr_gamma": 1, "schedule": {"batch_size": 4}})
    assert (after.min_snr_gamma, after.schedule.batch_size, after.schedule.total_images) == (1.0, 4, 10)
    assert before.schedule.batch_size != 4
    assert after.data == before.data
    with pytest.raises(RecipeError, match=r"r.toml: 'schedule.bach' is not a key; known keys: total_images, batch_size"):
        with_overrides(before, {"schedule": {"bach": 4}}, "r.toml")
    with pytest.raises(RecipeError, match="the recipe: schedule is 3; needed: an object"):
        with_overrides(before, {"schedule": 3})
