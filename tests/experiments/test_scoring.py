"""What an experiment measures: controls, more tracks, sets of images, what fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.files.png_metadata import read_sample
from tenth.evaluation.extractors.features import Extractor
from tenth.evaluation.extractors.inception_weights import load_inception
from tenth.evaluation.extractors.loading import DINOV2, FACE_QUALITY, INCEPTION, MISSING
from tenth.evaluation.registry import metrics_for
from tenth.experiments import identities as learnt
from tenth.experiments import recognizers, results, scoring
from tenth.experiments import runner as experiment
from tenth.experiments.recipe import DLIB, PORTRAIT_PROMPT_SET, ExperimentRecipe, PromptSet
from tenth.experiments.recognizers import SELECTION_ONLY
from tenth.experiments.runner import run_experiment
from tenth.experiments.scoring import AVERAGE, CONTROLS, COPIES, IMPOSTOR, NO_IDENTITY, REAL, SET_VIEWS, face_scores
from toy_extractors import Brightness, Patches
from toy_people import ColorRecognizer, scores_at

SETS = {row.name for row in metrics_for(*SET_VIEWS)}


class NamedColorRecognizer(ColorRecognizer):
    """Named by its file."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem


def results_at(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "run.json").read_text())["results"]
    return results


@pytest.mark.usefixtures("copying")
def test_controls_order_as_theory_says(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    run_experiment(recipe, tmp_path / "out")
    rows = scores_at(tmp_path / "out")
    who = {name: row["identity-similarity"]["value"] for name, row in rows.items()}
    assert min(who[REAL], who[COPIES], who[AVERAGE]) > max(who[IMPOSTOR], who[NO_IDENTITY]) + 0.3
    assert who[AVERAGE] > who[COPIES]  # nearer to every photo than a photo is: better than real is a warning
    copied = {name: row["copy-paste-index"]["value"] for name, row in rows.items()}
    assert copied[COPIES] == pytest.approx(1)
    assert max(abs(copied[REAL]), abs(copied[IMPOSTOR])) < 0.3
    assert rows[REAL]["face-frechet-distance"]["n"] == 3  # of three held-out photos, one a person


@pytest.mark.slow
@pytest.mark.usefixtures("copying")
def test_a_recognizer_that_says_its_threshold_gives_a_true_accept_rate(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiment(recipe, tmp_path / "without")
    assert "true-accept-rate" not in scores_at(tmp_path / "without")[REAL]
    monkeypatch.setattr(ColorRecognizer, "threshold", 0.5)
    monkeypatch.setattr(ColorRecognizer, "licence", "for trying")
    run_experiment(recipe, tmp_path / "with")
    rows = scores_at(tmp_path / "with")
    assert rows[REAL]["true-accept-rate"]["value"] > rows[IMPOSTOR]["true-accept-rate"]["value"]
    recognizer = results_at(tmp_path / "with")["recognizers"][0]
    assert (recognizer["threshold"], recognizer["licence"]) == (0.5, "for trying")


@pytest.mark.usefixtures("copying")
def test_recognizers_that_agree_and_one_that_sees_it_the_other_way_round(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ("ip-adapter", "ip-adapter-avg", "ip-adapter-max")
    order = {name: dict.fromkeys(("000", "001", "002"), value) for name, value in zip(methods, (0.1, 0.2, 0.3), strict=True)}
    turned = {name: {person: -value for person, value in found.items()} for name, found in order.items()}

    def scored(rows: Any, people: Any, index: int, recognizer: Any) -> Any:
        scores, _ = face_scores(rows, people, index, recognizer)
        return scores, (order, order, turned)[index]

    monkeypatch.setattr(results, "face_scores", scored)
    monkeypatch.setattr(recognizers, "load_recognizer", NamedColorRecognizer)
    files = (tmp_path / "one.toml", tmp_path / "two.toml", DLIB)
    run_experiment(replace(recipe, methods=methods, recognizers=files, images=1), tmp_path / "out")
    names = [each["name"] for each in results_at(tmp_path / "out")["recognizers"]]
    assert names == ["one", "two", SELECTION_ONLY]
    found = results_at(tmp_path / "out")["agreement"]
    assert [(each["recognizer"], each["other"]) for each in found] == [
        (names[0], names[1]),
        (names[0], names[2]),
        (names[1], names[2]),
    ]
    assert [each["between_methods"]["value"] for each in found] == pytest.approx([1, -1, -1])
    assert [each["per_person"]["value"] for each in found] == pytest.approx([1, -1, -1])
    assert {(each["prompt_set"], each["num_photos"], each["num_methods"]) for each in found} == {("portrait", 3, 3)}
    text = (tmp_path / "out/table.md").read_text()
    assert "| one | two | dlib (model selection only) |" in text
    assert "one and two: rank correlation of the 3 methods 1.00" in text


@pytest.mark.slow
@pytest.mark.usefixtures("copying")
def test_another_track_asks_other_prompts_of_some_methods(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    prompts = ("a photo of a smiling person", "a photo of an old person")
    recipe = replace(recipe, prompt_sets={"attributes": PromptSet(prompts, 3, ("ip-adapter-avg",))}, photo_counts=(1, 3))
    run_experiment(recipe, tmp_path / "out")
    said = [read_sample(path) for path in sorted((tmp_path / "out/images-attributes/3/ip-adapter-avg/001").iterdir())]
    assert [(each["prompt"], each["seed"]) for each in said] == [(prompts[0], 0), (prompts[1], 1), (prompts[0], 2)]
    results = results_at(tmp_path / "out")
    assert results["prompt_sets"]["attributes"] == {"prompts": list(prompts), "images": 3}
    scored = [(each["method"], each["num_photos"]) for each in results["scores"] if each["prompt_set"] == "attributes"]
    assert dict.fromkeys(scored) == dict.fromkeys([("ip-adapter-avg", 3), *((name, 3) for name in CONTROLS)])
    read = {(each["method"], each["metric"]): each for each in results["scores"] if each["metric"].startswith("attribute-")}
    asked = {name for name, _ in read}
    assert asked == {"ip-adapter-avg", NO_IDENTITY}  # whoever was asked
    assert all(each["prompt_set"] == "attributes" and 0 <= each["value"] <= 1 for each in read.values())
    assert read["ip-adapter-avg", "attribute-accuracy"]["n"] == 3
    assert read[NO_IDENTITY, "attribute-accuracy"]["n"] == 1
    assert results["prompt_scorers"][0].startswith("face-attributes@")
    assert "attribute accuracy" in (tmp_path / "out/table.md").read_text()
    with pytest.raises(RecipeError, match="prompt_sets is 'portrait'"):
        replace(recipe, prompt_sets={PORTRAIT_PROMPT_SET: PromptSet(prompts, 1)})
    with pytest.raises(RecipeError, match=r"attributes.methods is"):
        replace(recipe, prompt_sets={"attributes": PromptSet(prompts, 1, ("dreambooth",))})


@pytest.mark.usefixtures("copying")
def test_inception_fills_a_finished_run_and_touches_nothing_else(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiment(recipe, tmp_path / "out")
    before = results_at(tmp_path / "out")
    assert {each["unavailable"] for each in before["scores"] if each["metric"] in SETS} == set(MISSING.values())
    assert "needs the Inception file" in (tmp_path / "out/report.html").read_text()
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    monkeypatch.setattr(experiment, "process_people", lambda *_: pytest.fail("looked at photos again"))
    inception = load_inception("random:0")
    text = run_experiment(recipe, tmp_path / "out", {INCEPTION: inception})
    after = results_at(tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == files
    faces = [[each for each in results["scores"] if each["metric"] not in SETS] for results in (before, after)]
    assert faces[0] == faces[1]
    assert before["differences"] == after["differences"]
    rows = scores_at(tmp_path / "out")
    assert rows["ip-adapter"]["fid"]["value"] > 0
    assert rows["ip-adapter"]["fid"]["n"] == 6
    assert rows["ip-adapter"]["fid"]["raw"] not in (None, rows["ip-adapter"]["fid"]["value"])
    assert rows[NO_IDENTITY]["kid"]["n"] == 2  # everybody's images are the same two
    assert rows[COPIES]["fid"]["raw"] is None
    assert after["disclaimer"] == inception.disclaimer != ""
    assert inception.disclaimer in text
    assert run_experiment(recipe, tmp_path / "out", {INCEPTION: inception}) == text

    # The other networks, later: what Inception gave stays, and an image that is gone is drawn again.
    (tmp_path / "out/images/3/ip-adapter/000/0.png").unlink()
    others: dict[str, Extractor] = {DINOV2: Patches(), FACE_QUALITY: Brightness()}
    run_experiment(recipe, tmp_path / "out", others)
    both, latest = scores_at(tmp_path / "out"), results_at(tmp_path / "out")
    for name, row in rows.items():
        assert both[name] == row | {metric: both[name][metric] for metric in ("fd-dinov2", "face-quality")}
    assert both[COPIES]["fd-dinov2"]["value"] >= 0
    assert both["ip-adapter"]["face-quality"]["n"] == 3  # people
    assert both[NO_IDENTITY]["face-quality"]["n"] == 1
    assert latest["disclaimer"] == inception.disclaimer
    assert {name: each["name"] for name, each in latest["networks"].items()} == {
        INCEPTION: inception.name,
        DINOV2: "patches@0",
        FACE_QUALITY: "brightness@0",
    }


@pytest.mark.usefixtures("copying")
def test_what_fails_for_one_person_is_said_and_tried_again(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, broken = learnt.method, [True]

    def failing(name: str) -> Any:
        def learn(person: Any, model: Any) -> Any:
            if broken[0] and person.name == "001":
                raise DataError("the loss is nan", "a finite one is needed", "Lower the rate")
            return plain(name)(person, model)

        return learn if name == "ip-adapter-avg" else plain(name)

    monkeypatch.setattr(learnt, "method", failing)
    run_experiment(recipe, tmp_path / "out")
    results = results_at(tmp_path / "out")
    (cell,) = results["failed"]
    assert (cell["method"], cell["person"]) == ("ip-adapter-avg", "001")
    assert "the loss is nan" in cell["reason"]
    assert results["people"] == ["000", "002"]  # the same for every method
    with pytest.raises(DataError, match="2 people left without a failure"):
        run_experiment(replace(recipe, min_people=3), tmp_path / "other")
    run_experiment(recipe, tmp_path / "out", {INCEPTION: load_inception("random:0")})
    with pytest.raises(CheckpointError, match=r"has scores by .*, which would be lost.*Give the files of these"):
        run_experiment(recipe, tmp_path / "out")
    broken[0] = False
    run_experiment(recipe, tmp_path / "out", {INCEPTION: load_inception("random:0")})
    assert results_at(tmp_path / "out")["failed"] == []
    assert results_at(tmp_path / "out")["people"] == ["000", "001", "002"]


def test_a_set_holds_everybodys_image_once() -> None:
    row = scoring.TableRow(("000", "000", "001", "001"), tuple(Path(name) for name in "abab"), shared=True)
    assert row.unique_paths == (Path("a"), Path("b"))
    assert replace(row, shared=False).unique_paths == row.paths


def test_to_go_on_there_must_be_something(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no experiment to go on with"):
        run_experiment(recipe, tmp_path / "none", resume=True)


def test_lfws_codec_changes_a_image_little() -> None:
    smooth = np.linspace(0, 255, 128 * 128 * 3).reshape(128, 128, 3).astype(np.uint8)
    turned = scoring.match_lfw_jpeg(smooth)
    assert turned.shape == smooth.shape
    assert 0 < np.abs(turned.astype(int) - smooth).mean() < 4
    assert scoring.match_lfw_jpeg(np.zeros((256, 256, 3), np.uint8)).shape == (128, 128, 3)
