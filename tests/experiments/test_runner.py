"""The experiment on toy people: what it writes, what it does again, what it refuses."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.files.png_metadata import read_sample
from tenth.core.marks.verify import MarkState, verify
from tenth.core.types import Photo, Pixels, Sample
from tenth.data.manifest import write_manifest
from tenth.data.splits import ReferenceSplit
from tenth.experiments import identities as learnt
from tenth.experiments import images as pictures
from tenth.experiments import recognizers
from tenth.experiments.output_folders import ensure_writable_experiment
from tenth.experiments.protocol import check_disjoint, check_impostors, split_people
from tenth.experiments.recipe import PORTRAIT_PROMPT_SET, Condition, ExperimentRecipe
from tenth.experiments.recognizers import SELECTION_ONLY
from tenth.experiments.runner import run_experiment
from tenth.experiments.scoring import CONTROLS, COPIES, NO_IDENTITY, REAL
from tenth.methods.identity_file import load_identity, save_identity
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from toy_marks import assert_marked
from toy_people import FACE, NAMES, PHOTOS, ColorRecognizer, digest, generate_held_out_photos, scores_at

REAL_FOLDERS = ("references", "held-out", "averages")


def used(recipe: ExperimentRecipe, condition: Condition, name: str, output: Path) -> list[tuple[str, ...]]:
    """The photos behind each image of person 001."""
    shown = pictures.list_image_jobs(recipe, ["001"], output)[PORTRAIT_PROMPT_SET, condition, name, "001"]
    return [load_identity(picture.identity).photos for picture in shown if picture.identity]


def written_at(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.usefixtures("copying")
def test_the_right_person_is_above_a_impostor_and_controls_are_rows(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    text = run_experiment(recipe, tmp_path / "out")
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert [recognizer["selection_only"] for recognizer in record["results"]["recognizers"]] == [False, True]
    assert record["results"]["people"] == ["000", "001", "002"]
    assert [cost["method"] for cost in record["results"]["costs"]] == list(recipe.methods)
    systems = {each["method"]: (each["model"], each["width"], each["height"]) for each in record["results"]["systems"]}
    assert list(systems) == list(recipe.methods)
    assert {(model.partition("@")[0], *size) for model, *size in systems.values()} == {("toy", 128, 128)}
    for recognizer in ("colours@0", SELECTION_ONLY):
        rows = scores_at(tmp_path / "out", recognizer)
        assert list(rows) == [*recipe.methods, *CONTROLS]
        for name in recipe.methods:
            assert rows[name]["identity-similarity"]["value"] > rows[name]["impostor-similarity"]["value"] + 0.3
            assert rows[name]["identity-similarity"]["value"] > rows[NO_IDENTITY]["identity-similarity"]["value"] + 0.3
            assert rows[name]["copy-paste-index"]["value"] == pytest.approx(-1)  # a held-out photo, copied
        assert rows[COPIES]["copy-paste-index"]["value"] == pytest.approx(1)
        assert abs(rows[REAL]["copy-paste-index"]["value"]) < 0.5
    photos = {path for folder in REAL_FOLDERS for path in (tmp_path / "out" / folder).rglob("*.png")}
    assert_marked(*(set((tmp_path / "out").rglob("*.png")) - photos))
    assert photos
    assert {verify(path).state for path in photos} == {MarkState.FOREIGN}  # no photo is called a model's
    assert text == (tmp_path / "out/table.md").read_text()
    assert "| `ip-adapter-avg` |" in text
    assert "<html" in (tmp_path / "out/report.html").read_text()
    (tmp_path / "out/table.md").unlink()  # as if killed before it was written
    assert run_experiment(recipe, tmp_path / "out") == text  # finished: nothing is drawn again
    assert (tmp_path / "out/table.md").read_text() == text


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    saved: list[Path] = []
    save = pictures.save_sample

    def interrupted(sample: Sample, path: Path) -> None:
        if len(saved) == 3 + 2:
            raise KeyboardInterrupt
        save(sample, path)
        saved.append(path)

    recipe = replace(recipe, methods=("ip-adapter-avg",), images=3, max_people=2)
    monkeypatch.setattr(pictures, "save_sample", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(recipe, tmp_path / "one")
    before = files(tmp_path / "one/images")
    assert len(before) == 3 + 2
    inodes = {path: path.stat().st_ino for path in saved}
    monkeypatch.setattr(pictures, "save_sample", save)
    monkeypatch.setattr(pictures, "generate", lambda *given: asked.extend(given[1]) or generate(*given))
    (tmp_path / "one/images/none/.9.png.0123456789abcdef.part").touch()  # as a kill leaves it
    run_experiment(recipe, tmp_path / "one")
    assert len(asked) == 4 + 2  # nobody's stand, the batch with a gap is drawn whole again
    assert {path: path.stat().st_ino for path in saved} == inodes
    monkeypatch.setattr(pictures, "generate", generate)
    run_experiment(recipe, tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    for name in ("run.json", "costs.jsonl", "report.html"):  # the only files with times in them
        assert one.pop(name)
        assert two.pop(name)
    assert one == two
    assert before.items() <= files(tmp_path / "two/images").items()


@pytest.mark.usefixtures("copying")
def test_no_name_is_in_any_output(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    run_experiment(recipe, tmp_path / "out")
    written = files(tmp_path / "out")
    assert {"run.json", "settings.json", "table.md", "sheet.png", "images/3/ip-adapter/002/1.png"} <= written.keys()
    assert read_sample(tmp_path / "out/images/3/ip-adapter/002/1.png")["seed"] == 1
    for path, content in written.items():
        for word in "_".join(NAMES).split("_"):
            assert word not in path
            assert word.encode() not in content


@pytest.mark.slow
@pytest.mark.usefixtures("copying")
def test_another_recipe_or_a_foreign_folder_is_refused(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    run_experiment(recipe, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"other settings: images 2, not 3; sampling .*choose another folder"):
        run_experiment(replace(recipe, images=3, sampling=SamplingConfig(steps=2)), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds no experiment"):
        ensure_writable_experiment(tmp_path / "mine", {})


def test_sides_do_not_meet(recipe: ExperimentRecipe) -> None:
    rows = recipe.data.entries("validation")
    write_manifest(recipe.data.people, [rows[0], replace(rows[0], file=f"{NAMES[0]}/again.jpg"), *rows[1:]])
    number, parted = next(split_people(recipe.data, "validation", references=3, held_out=10))
    assert number == "000"
    assert [photo.digest for photo in parted.references] == [digest(0, photo) for photo in range(3)]
    assert [photo.digest for photo in parted.held_out] == [digest(0, photo) for photo in range(3, PHOTOS)]
    brighter = Photo(parted.references[0].pixels + np.uint8(3), "0" * 64, face=FACE)
    for met in (parted.references[0], brighter):
        with pytest.raises(DataError, match="also a reference"):
            check_disjoint(ReferenceSplit(parted.references, (met,)))


def test_people_with_too_few_photos_are_left_out_and_numbers_stay(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    rows = recipe.data.entries("validation")
    write_manifest(recipe.data.people, rows[PHOTOS - 3 :])  # the first person has three photos left
    sides = dict(split_people(recipe.data, "validation", references=3, held_out=1))
    assert list(sides) == ["001", "002"]
    assert [len(parted.held_out) for parted in sides.values()] == [1, 1]
    with pytest.raises(DataError, match=r"2 people of validation with 3 references.*3 are needed"):
        run_experiment(replace(recipe, min_people=3), tmp_path / "out")


def test_a_person_without_a_face_to_judge_by_is_left_out(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(ColorRecognizer):
        def __call__(self, pixels: Sequence[Pixels]) -> Any:
            rows = super().__call__(pixels)
            return np.where(rows[:, 1:2] > rows[:, :1], np.nan, rows)  # sees no face in what is greener than red

    monkeypatch.setattr(recognizers, "load_recognizer", Blind)
    monkeypatch.setattr(pictures, "generate", generate_held_out_photos)
    run_experiment(replace(recipe, images=1), tmp_path / "out")
    people = json.loads((tmp_path / "out/run.json").read_text())["results"]["people"]
    assert "001" not in people
    assert "000" in people


@pytest.mark.slow
@pytest.mark.usefixtures("copying")
def test_conditions_are_nested_and_a_wrong_photo_is_a_other_people(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, photo_counts=(1, 3), num_impostors=(0, 1), images=4)
    run_experiment(recipe, tmp_path / "out")
    own, stranger = [digest(1, photo) for photo in range(PHOTOS)], digest(2, 0)
    given = {Condition(1): own[:1], Condition(3): own[:3], Condition(3, 1): [*own[:2], stranger]}
    for condition, photos in given.items():
        assert used(recipe, condition, "ip-adapter-avg", tmp_path / "out") == [tuple(photos)] * 4
    for condition, turn in ((Condition(1), (0, 0, 0, 0)), (Condition(3), (0, 1, 2, 0)), (Condition(3, 1), (0, 1, 0, 1))):
        assert used(recipe, condition, "ip-adapter", tmp_path / "out") == [(own[photo],) for photo in turn]
    last = learnt.identity_paths(recipe, Condition(3, 1), "ip-adapter-avg", "002", tmp_path / "out")[0]
    assert load_identity(last).photos[-1] == digest(0, 0)  # the first person is next to the last


@pytest.mark.slow
@pytest.mark.usefixtures("copying")
def test_every_condition_is_in_the_tables_and_the_curve_is_drawn(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(recipe, photo_counts=(1, 3), num_impostors=(1,), images=1, baselines=("ip-adapter-avg", "ip-adapter"))
    text = run_experiment(recipe, tmp_path / "out")
    assert Image.open(tmp_path / "out/curve.png").size == (1200, 800)
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert (record["settings"]["photo_counts"], record["settings"]["baselines"]) == ([1, 3], ["ip-adapter-avg", "ip-adapter"])
    found = {(each["num_photos"], each["num_impostors"]): None for each in record["results"]["scores"]}
    assert list(found) == [(1, 0), (3, 0), (3, 1)]
    for photos, num_impostors in found:
        rows = scores_at(tmp_path / "out", photos=photos, num_impostors=num_impostors)
        assert list(rows) == [*recipe.methods, *(CONTROLS if (photos, num_impostors) == (3, 0) else ())]
    lost = [each for each in record["results"]["differences"] if each["method"] == each["baseline"]]
    assert [(each["method"], each["num_impostors"]) for each in lost] == [
        (name, 1) for name in recipe.methods
    ] * 2  # by either recognizer
    assert lost[1]["value"] == pytest.approx(0)  # the same held-out photo is "drawn" for both
    assert "## Prompt set portrait, 3 photos" in text

    # Without matplotlib the run is as good, but for the curve.
    (tmp_path / "out/curve.png").unlink()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert run_experiment(recipe, tmp_path / "out") == text
    assert not (tmp_path / "out/curve.png").exists()
    assert "The plot needs matplotlib" in (tmp_path / "out/report.html").read_text()


@pytest.mark.slow
def test_what_comes_to_the_same_is_drawn_once_and_stays_where_it_is(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    monkeypatch.setattr(pictures, "generate", lambda *given: asked.extend(given[1]) or generate_held_out_photos(*given))
    methods = ("ip-adapter", "ip-adapter-max", "ip-adapter-consensus", "ip-adapter-concat")
    recipe = replace(recipe, methods=methods, photo_counts=(1, 2, 3), num_impostors=(1,), images=1, max_people=2)
    run_experiment(recipe, tmp_path / "out")
    first = 1 + 2 * (1 + 3 * 3)  # nobody; of each person the first photo, and three ways to pool 2, 3, and 3 photos
    assert len(asked) == first
    one = [tmp_path / "out/images" / folder / "ip-adapter/001/0.png" for folder in ("2", "3", "3-impostor-1")]
    one += [tmp_path / "out/images/1" / name / "001/0.png" for name in methods]
    assert [read_sample(path)["method"] for path in one] == [*methods[:1] * 3, *methods]
    assert len(before := written_at(tmp_path / "out/images")) == 1 + 2 * 4 * 4
    (tmp_path / "out/run.json").unlink()
    one[-1].unlink()
    run_experiment(recipe, tmp_path / "out")
    assert len(asked) == first + 2  # the batch of the picture that is gone
    assert {path for path, _ in before.items() ^ written_at(tmp_path / "out/images").items()} == {one[-1]}


def test_a_other_people_photo_is_of_no_one_else(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    (_, own), (_, other), _ = split_people(recipe.data, "validation", references=3, held_out=10)
    check_impostors(other.references, own)
    for side in (own.references, own.held_out):
        with pytest.raises(DataError, match="must be another person's"):
            check_impostors(side[:1], own)
    with pytest.raises(DataError, match=r"1 person of validation.*2 are needed"):
        run_experiment(replace(recipe, num_impostors=(1,), min_people=1, max_people=1), tmp_path / "out")
    assert not (tmp_path / "out/images").exists()


@pytest.mark.slow
def test_an_identity_of_another_adapter_is_made_again(recipe: ExperimentRecipe, tmp_path: Path, toy_model: Any) -> None:
    run_experiment(recipe := replace(recipe, images=1, max_people=2), tmp_path / "out")
    path = learnt.identity_paths(recipe, Condition(3), "ip-adapter-avg", "000", tmp_path / "out")[0]
    save_identity(replace(load_identity(path), adapter="older@0"), path)
    (tmp_path / "out/run.json").unlink()
    run_experiment(recipe, tmp_path / "out")
    assert load_identity(path).adapter == toy_model.adapter_name


@pytest.mark.slow
def test_people_whom_the_package_has_trained_from_do_not_test_it(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    rows = [replace(row, split="test", fold=1) for row in recipe.data.entries("validation")]
    write_manifest(recipe.data.people, rows)
    with pytest.raises(RecipeError, match="test people of fold 1, and the model pocket"):
        run_experiment(replace(recipe, split="test"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for model in (str(tmp_path), "sd15"):  # one's own split, and one that has learnt from none of them
        run_experiment(replace(recipe, split="test", model=model), tmp_path / Path(model).name)
