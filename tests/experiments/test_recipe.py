"""Recipes of experiments: which are possible, what they ask, and where their files lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tenth.core.errors import InputError, RecipeError
from tenth.core.run_record import method_folder_names
from tenth.core.types import Identity, Photo
from tenth.data.captions.templates import WORD_PATTERN, vocabulary
from tenth.data.faces.crops import PhotoDataset
from tenth.experiments import recognizers
from tenth.experiments.images import list_image_jobs, unconditional_key
from tenth.experiments.recipe import DLIB, PORTRAIT_PROMPT_SET, Condition, ExperimentRecipe
from tenth.experiments.recognizers import SELECTION_ONLY, load_recognizers
from tenth.experiments.runner import read_experiment
from tenth.methods.registry import METHODS
from tenth.reporting.metric_columns import condition_text
from tenth.sampling.config import SamplingConfig

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
RECIPE = ExperimentRecipe(
    PhotoDataset(Path("people.jsonl"), Path("photos")), "validation", methods=("ip-adapter", "ip-adapter-avg")
)


class Named:
    """A recognizer by name."""

    def __init__(self, name: str) -> None:
        self.name = name


QUESTIONS = [path for path in sorted(RECIPES.glob("*.toml")) if path.stem.endswith(("-validation", "-test"))]


@pytest.mark.parametrize("path", QUESTIONS, ids=lambda path: path.stem)
def test_recipes_in_the_repository_are_read(path: Path) -> None:
    recipe = read_experiment(path)
    assert recipe.split == path.stem.rpartition("-")[2]
    assert recipe.recognizers[0] == Path("recognizer/recognizer.toml")
    assert recipe.baselines == ("ip-adapter", "ip-adapter-consensus")
    assert replace(recipe.sampling, text_guidance_scale=0.0) == SamplingConfig()


def test_options_stand_in_the_place_of_a_recipes_keys() -> None:
    path = RECIPES / "quick-test.toml"
    recipe = read_experiment(path)
    assert read_experiment(path, {}) == recipe
    options = {"data": {"photos": Path("elsewhere")}, "recognizers": [Path("a.toml"), DLIB], "max_people": 3}
    found = read_experiment(path, options)
    data = replace(recipe.data, photos=Path("elsewhere"))
    assert found == replace(recipe, data=data, recognizers=(Path("a.toml"), DLIB), max_people=3)
    assert (recipe.needed_people, found.needed_people) == (50, 3)  # no more than may take part
    with pytest.raises(RecipeError, match="the options: max_people"):
        read_experiment(path, {"max_people": -1})


def test_the_curve_is_asked_alike_of_both_splits() -> None:
    validation, test = (read_experiment(RECIPES / f"curve-{split}.toml") for split in ("validation", "test"))
    assert replace(validation, split="test", min_people=test.min_people, recognizers=test.recognizers) == test


def test_the_comparison_asks_every_method_and_words_that_the_model_knows() -> None:
    validation, test = (read_experiment(RECIPES / f"comparison-{split}.toml") for split in ("validation", "test"))
    of_pocket = tuple(name for name in METHODS if name != "photos-in-context")  # which takes none
    assert test.methods == validation.methods == (*of_pocket, "dreambooth+ip-adapter-consensus")
    assert test.sampling == validation.sampling
    assert test.methods_of("attributes") == test.methods
    prompts = test.prompt_sets["attributes"].prompts
    assert prompts == validation.prompt_sets["attributes"].prompts
    assert len(prompts) == len(set(prompts)) == test.prompt_sets["attributes"].images == 20
    assert {word for prompt in prompts for word in WORD_PATTERN.findall(prompt)} <= set(vocabulary())


def test_the_frontier_asks_words_that_the_model_knows_and_shares_a_setting() -> None:
    recipe = read_experiment(RECIPES / "frontier-validation.toml")
    assert recipe.frontier is not None
    assert recipe.sampling in [setting.applied(recipe.sampling) for setting in recipe.frontier.settings]
    prompts = recipe.prompt_sets[recipe.frontier.prompt_set].prompts
    assert {word for prompt in prompts for word in WORD_PATTERN.findall(prompt)} <= set(vocabulary())


def test_the_curve_has_these_conditions() -> None:
    found = read_experiment(RECIPES / "curve-test.toml").conditions
    assert [condition.folder for condition in found] == ["1", "3", "5", "7", "9", "9-impostor-1"]
    assert [condition_text((at.num_photos, at.num_impostors)) for at in found][::5] == ["1 photo", "9 photos, 1 impostor"]


def test_a_recipe_that_says_nothing_asks_for_all_references() -> None:
    assert RECIPE.conditions == (Condition(9),)
    assert replace(RECIPE, references=5).conditions == (Condition(5),)
    assert RECIPE.baseline_methods == ("ip-adapter",)
    assert RECIPE.max_impostors == 0


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"split": "train"}, "split is 'train'; needed: 'validation' or 'test'"),
        ({"images": 0}, "images is 0"),
        ({"methods": ()}, "methods is"),
        ({"real_photo_framing": "print"}, "real_photo_framing is 'print'; needed: 'crop' or 'photo'"),
        ({"photo_counts": (0, 3)}, "photo_counts.0 is 0; needed: greater than or equal to 1"),
        ({"photo_counts": (3, 10)}, "numbers from 1 to references, 9"),
        ({"photo_counts": (3, 1)}, "each above the last"),
        ({"photo_counts": (3, 3)}, "each above the last"),
        ({"photo_counts": (1, 3), "num_impostors": (0, 3)}, r"num_impostors is \[0, 3\]; needed: numbers from 0 to 2"),
        ({"num_impostors": (-1,)}, "num_impostors.0 is -1; needed: greater than or equal to 0"),
        ({"num_impostors": (9,)}, "numbers from 0 to 8"),
        ({"num_impostors": (1, 1)}, "each once"),
        ({"baselines": ("ip-adapter-max",)}, "of the recipe's methods"),
        ({"baselines": ("ip-adapter", "ip-adapter")}, "each once"),
    ],
)
def test_an_impossible_recipe_says_so(invalid: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(RECIPE, **invalid)


def test_an_unknown_method_says_so() -> None:
    with pytest.raises(InputError, match="'ip-adaptor' is not a method"):
        replace(RECIPE, methods=("ip-adaptor",))


def test_the_last_photos_are_replaced_by_the_other_people_first() -> None:
    own, other = ([Photo(np.zeros((1, 1, 3), np.uint8), f"{who}{number}") for number in range(4)] for who in "ab")
    assert [photo.digest for photo in Condition(3).select_photos(own, other)] == ["a0", "a1", "a2"]
    assert [photo.digest for photo in Condition(4, 2).select_photos(own, other)] == ["a0", "a1", "b0", "b1"]
    assert [photo.digest for photo in Condition(1).select_photos(own, ())] == ["a0"]


def test_a_method_that_is_a_path_has_a_folder_of_its_own() -> None:
    names = method_folder_names(
        ("ip-adapter", "runs/attention/final", "runs-attention-final", "Runs/Attention/final", "../x", "/")
    )
    assert names["ip-adapter"] == "ip-adapter"
    assert names["runs/attention/final"] == "runs-attention-final"
    assert names["../x"] == "x"
    assert len({name.lower() for name in names.values()}) == 6
    assert all(name and "/" not in name for name in names.values())


def test_no_two_images_share_a_path_and_nobodys_are_once() -> None:
    recipe = replace(RECIPE, photo_counts=(1, 9), num_impostors=(1, 2), images=2)
    pictures = list_image_jobs(recipe, ["000", "001"], Path("out"))
    paths = [picture.path for images in pictures.values() for picture in images]
    assert len(paths) == len(set(paths)) == 2 + 4 * 2 * 2 * 2
    assert [picture.path.as_posix() for picture in pictures[unconditional_key(PORTRAIT_PROMPT_SET)]] == [
        "out/images/none/0.png",
        "out/images/none/1.png",
    ]
    assert pictures[PORTRAIT_PROMPT_SET, Condition(9, 2), "ip-adapter", "001"][1].path == Path(
        "out/images/9-impostor-2/ip-adapter/001/1.png"
    )


def test_identities_look_alike_only_to_the_bit_and_by_one_adapter() -> None:
    rows = torch.arange(4.0)[None]
    one = Identity("first", "model@0", "encoder@0", "adapter@0", rows, photos=("a",))
    assert one.fingerprint == replace(one, method="mean", embeddings=rows.clone(), photos=("a", "b")).fingerprint
    others = [replace(one, adapter="adapter@1"), replace(one, trigger_phrase="sks"), replace(one, weights={"down": rows})]
    others += [replace(one, embeddings=each) for each in (rows + 1e-6, rows.T, rows.double(), torch.cat([rows, rows]))]
    assert all(one.fingerprint != other.fingerprint for other in others)


def test_dlib_measures_alone_unless_recognizers_are_named(toy_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unread: Any = SimpleNamespace(encoder=SimpleNamespace(dlib_mean=None))  # a model that does not read it
    for model in (toy_model, unread):
        assert list(load_recognizers(RECIPE, model)) == [SELECTION_ONLY]
    assert load_recognizers(RECIPE, toy_model)[SELECTION_ONLY].name != load_recognizers(RECIPE, unread)[SELECTION_ONLY].name
    monkeypatch.setattr(recognizers, "load_recognizer", lambda path: Named(path.stem))
    named = replace(RECIPE, recognizers=(Path("b/one.toml"), Path("a.toml"), DLIB))
    assert list(load_recognizers(named, toy_model)) == ["one", "a", SELECTION_ONLY]
    assert list(load_recognizers(replace(named, recognizers=(Path("a.toml"),)), toy_model)) == ["a"]
    with pytest.raises(RecipeError, match=r"recognizers is .*needed: one or more"):
        replace(RECIPE, recognizers=())
    with pytest.raises(RecipeError, match="each once"):
        replace(RECIPE, recognizers=(DLIB, DLIB))
    with pytest.raises(RecipeError, match=r"'other/a.toml'.*another's name and model"):
        load_recognizers(replace(RECIPE, recognizers=(Path("a.toml"), Path("other/a.toml"))), toy_model)
