"""The frontier of an experiment: which images it draws, what it records of them, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenth.core.errors import RecipeError
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import Features, Sample
from tenth.evaluation.frontier import area
from tenth.evaluation.image_set import load_image
from tenth.evaluation.metrics.identity import identity_similarity_per_person
from tenth.evaluation.registry import METRICS
from tenth.experiments import images as pictures
from tenth.experiments.frontier import scores
from tenth.experiments.frontier.grid import PROMPT_METRICS, FrontierConfig, FrontierSetting
from tenth.experiments.frontier.images import list_frontier_jobs, reads_settings
from tenth.experiments.images import list_image_jobs
from tenth.experiments.recipe import ExperimentRecipe, PromptSet
from tenth.experiments.runner import run_experiment
from tenth.methods.registry import ADAPTER_METHODS
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request
from toy_people import ColorRecognizer, generate_held_out_photos

PROMPTS = ("a photo of a smiling person", "a photo of an old person")
FRONTIER = FrontierConfig(text_guidance_scales=(0.0, 4.0), ip_adapter_scales=(0.5, 1.0))


def generate_traded(model: Any, requests: Sequence[Request], sampling: SamplingConfig) -> Iterator[Sample]:
    """The person's held-out photo, and the more text guidance and the less of the adapter, the more grey in it."""
    assert isinstance(sampling.ip_adapter_scale, float)
    grey = sampling.text_guidance_scale / 10 + (1 - sampling.ip_adapter_scale) / 2
    for sample in generate_held_out_photos(model, requests, sampling):
        noise = np.random.default_rng(sample.seed).integers(90, 120, (128, 128, 3), dtype=np.uint8)
        yield replace(sample, pixels=np.rint((1 - grey) * sample.pixels + grey * noise).astype(np.uint8))


@pytest.fixture
def traded(recipe: ExperimentRecipe, monkeypatch: pytest.MonkeyPatch) -> ExperimentRecipe:
    monkeypatch.setattr(pictures, "generate", generate_traded)
    sampling = replace(recipe.sampling, text_guidance_scale=0.0)  # one of the frontier's
    recipe = replace(recipe, recognizers=recipe.recognizers[:1], sampling=sampling)
    return replace(recipe, prompt_sets={"attributes": PromptSet(PROMPTS, 2)}, frontier=FRONTIER)


def frontiers_at(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "run.json").read_text())["results"]["frontiers"]
    return found


def test_every_setting_is_drawn_once_and_recorded(
    recipe: ExperimentRecipe, traded: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, out = replace(traded, recognizers=recipe.recognizers), tmp_path / "out"
    run_experiment(both, out)
    assert_drawn(out)
    before = frontiers_at(out)
    assert [each["recognizer"] for each in before] == ["colours@0", "dlib (model selection only)"]
    assert_recorded(before[0], out)
    text = (out / "table.md").read_text()
    assert "### Area under the frontier, prompt set attributes" in text
    assert "`ip-adapter-avg, text guidance 4, adapter scale 0.5`" in text
    assert "The prompt against the person" in (out / "report.html").read_text()
    assert (out / "frontier.png").read_bytes()[:4] == b"\x89PNG"

    # As if killed before the record was written.
    (out / "run.json").unlink()
    monkeypatch.setattr(pictures, "generate", lambda *_: pytest.fail("an image was drawn again"))
    run_experiment(both, out)
    assert frontiers_at(out) == before


def assert_drawn(out: Path) -> None:
    """The images of each setting but the recipe's own, which are the prompt set's; each says its settings."""
    folders = {path.name for path in (out / "frontier").iterdir() if path.is_dir()}
    assert folders == {"text-0.0-adapter-0.5", "text-4.0-adapter-0.5", "text-4.0-adapter-1.0"}  # 0.0 and 1.0 are the recipe's
    files = sorted((out / "frontier").rglob("*.png"))
    assert len(files) == 3 * 2 * 3 * 2  # settings, methods, people, images
    for path in files:
        said = read_sample(path)
        assert path.parts[-4] == f"text-{said['text_guidance_scale']}-adapter-{said['ip_adapter_scale']}"
        assert (said["prompt"], said["method"]) == (PROMPTS[int(path.stem)], path.parts[-3])
    tasks = [json.loads(line)["task"] for line in (out / "frontier/costs.jsonl").read_text().splitlines()]
    assert set(tasks) == {"images"}  # apart from the costs of the recipe's own sampling


def assert_recorded(found: dict[str, Any], out: Path) -> None:
    """The points, areas and pairs of the images."""
    assert (found["prompt_set"], found["num_photos"], found["prompt_metric"]) == ("attributes", 3, "attribute-accuracy")
    assert [each["method"] for each in found["methods"]] == ["ip-adapter", "ip-adapter-avg"]
    for method in found["methods"]:
        settings = [(point["text_guidance_scale"], point["ip_adapter_scale"]) for point in method["points"]]
        assert settings == [(0, 0.5), (4, 0.5), (0, 1), (4, 1)]
        kept = [point["person"]["value"] for point in method["points"]]
        assert kept[2] > kept[0] > kept[1] < kept[3] < kept[2]  # as the generator trades them
        means = np.array([(point["prompt"]["value"], point["person"]["value"]) for point in method["points"]])
        assert method["area"]["value"] == pytest.approx(float(area(means)))
        assert method["area"]["low"] <= method["area"]["value"] <= method["area"]["high"]
        assert {point["person"]["n"] for point in method["points"]} == {method["area"]["n"]} == {3}
        assert method["points"][2]["on_frontier"]  # none keeps the person better
    (pair,) = found["differences"]
    assert (pair["method"], pair["baseline"], pair["p_holm"]) == ("ip-adapter", "ip-adapter-avg", pair["p_value"])

    # A point anew, from the files.
    people = [f"{number:03}" for number in range(3)]
    at_point, held_out = (
        [sorted((out / folder / who).glob("*.png")) for who in people]
        for folder in ("frontier/text-4.0-adapter-1.0/ip-adapter-avg", "held-out")
    )
    sides = [
        Features(
            ColorRecognizer()([load_image(path) for path in chain.from_iterable(paths)]),
            tuple(who for who, files in zip(people, paths, strict=True) for _ in files),
        )
        for paths in (at_point, held_out)
    ]
    expected = np.mean(list(identity_similarity_per_person(*sides).values()))
    assert found["methods"][1]["points"][3]["person"]["value"] == pytest.approx(expected, abs=1e-9)


def test_methods_to_which_the_settings_do_nothing_have_one_point(traded: ExperimentRecipe) -> None:
    assert all(map(reads_settings, (*ADAPTER_METHODS, "dreambooth", "dreambooth-lora", "dreambooth+ip-adapter-consensus")))
    assert not any(map(reads_settings, ("photos-in-context", "dreambooth+photos-in-context")))
    recipe = replace(traded, methods=("photos-in-context", "ip-adapter"))
    jobs = list_image_jobs(recipe, ["000"], Path("out"))
    found = list_frontier_jobs(recipe, FRONTIER, jobs, Path("out"))
    assert [setting for name, setting in found if name == "photos-in-context"] == [None]
    assert [setting for name, setting in found if name == "ip-adapter"] == list(FRONTIER.settings)
    assert found["photos-in-context", None] == {"000": jobs["attributes", recipe.main_condition, "photos-in-context", "000"]}


def test_one_point_counts_at_every_setting() -> None:
    people = ("000", "001", "002")
    many = {FrontierSetting(text, 1.0): 0.4 - text / 100 for text in (0.0, 5.0)}
    kept = {("a", setting): dict.fromkeys(people, value) for setting, value in many.items()} | {
        ("b", None): dict.fromkeys(people, 0.5)
    }
    obeyed = {key: dict.fromkeys(people, 0.6) for key in kept}
    config = replace(FRONTIER, text_guidance_scales=(0.0, 5.0), ip_adapter_scales=(1.0,))
    found = scores.compare_methods(config, obeyed, kept)
    assert [each["area"]["value"] for each in found["methods"]] == pytest.approx([0.6 * 0.4, 0.6 * 0.5])
    assert [len(each["points"]) for each in found["methods"]] == [2, 1]
    assert found["methods"][1]["points"][0]["text_guidance_scale"] is None
    assert found["differences"][0]["value"] == pytest.approx(-0.06)
    nobody = {**kept, ("b", None): dict.fromkeys(people, np.nan)}
    assert "there is no other person" in scores.compare_methods(config, obeyed, nobody)["unavailable"]


def test_prompts_that_ask_for_nothing_make_no_frontier(traded: ExperimentRecipe, tmp_path: Path) -> None:
    recipe = replace(traded, prompt_sets={"attributes": PromptSet(("a photo of a person",), 1)})
    run_experiment(recipe, tmp_path / "out")
    (found,) = frontiers_at(tmp_path / "out")
    assert (found["methods"], found["differences"]) == ([], [])
    assert found["unavailable"] == "too few prompts ask for anything that can be read"
    assert found["unavailable"] in (tmp_path / "out/report.html").read_text()
    assert not (tmp_path / "out/frontier.png").exists()


def test_a_metric_that_cannot_be_measured_is_refused_before_anything_is_drawn(traded: ExperimentRecipe, tmp_path: Path) -> None:
    recipe = replace(traded, frontier=replace(FRONTIER, prompt_metric="clip-score"))
    expected = (
        r"frontier.prompt_metric is 'clip-score'; needed: one that this recipe can measure: attribute-accuracy, attribute-r"
    )
    with pytest.raises(RecipeError, match=expected):
        run_experiment(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert set(PROMPT_METRICS) == {name for name, metric in METRICS.items() if metric.group == "Prompts"}


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"text_guidance_scales": (3.0, 0.0)}, "text_guidance_scales is .*each above the last"),
        ({"ip_adapter_scales": (1.0, 1.0)}, "ip_adapter_scales is .*each above the last"),
        ({"ip_adapter_scales": ()}, "ip_adapter_scales is .*one or more"),
        ({"prompt_metric": "fid"}, "prompt_metric is 'fid'; needed: one of attribute-accuracy"),
        ({"reference_point": (0.0,)}, "reference_point"),
        ({"text_guidance_scales": (0.0, 51.0)}, "text_guidance_scale is 51.0; needed: a number from 0 to 50"),
        ({"ip_adapter_scales": (-1.0, 1.0)}, "ip_adapter_scale"),
        ({"prompt_set": "portrait"}, "frontier.prompt_set is 'portrait'; needed: one of prompt_sets: attributes"),
    ],
)
def test_an_impossible_frontier_says_so(traded: ExperimentRecipe, invalid: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(traded, frontier=replace(FRONTIER, **invalid))
