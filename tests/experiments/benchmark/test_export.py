"""The folder of tasks: what a system is given, what it is not, and that all get the same."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.marks.verify import MarkState, verify
from tenth.data.manifest import read_manifest, write_manifest
from tenth.evaluation.image_set import load_image
from tenth.experiments.benchmark import export
from tenth.experiments.benchmark.export import export_benchmark
from tenth.experiments.benchmark.tasks import ATTRIBUTE_PROMPTS, Benchmark, read_benchmark
from tenth.experiments.recipe import ExperimentRecipe
from tenth.experiments.runner import read_experiment
from toy_people import NAMES, PHOTOS, face_pixels

ROOT = Path(__file__).resolve().parents[3]


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "tasks.jsonl").read_text().splitlines()]


def test_every_person_has_every_task_once(exported: Benchmark) -> None:
    tasks = lines(exported.directory)
    assert len(tasks) == 3 * (2 * 2 + len(ATTRIBUTE_PROMPTS)) == len({task["image"] for task in tasks})
    for person in ("000", "001", "002"):
        own = [task for task in tasks if task["person"] == person]
        for photos in (1, 3):  # nested, the same seeds and prompts for all
            portraits = [task for task in own if (task["prompt_set"], task["num_references"]) == ("portrait", photos)]
            assert [task["image"] for task in portraits] == [f"portrait/{photos}/{person}/{seed}.png" for seed in (0, 1)]
            assert {task["prompt"] for task in portraits} == {"a portrait photo of a person"}
            for task in portraits:
                assert task["references"] == [f"references/{person}/{index}.png" for index in range(photos)]
        attributes = [task for task in own if task["prompt_set"] == "attributes"]
        assert [(task["prompt"], task["seed"]) for task in attributes] == [(p, s) for s, p in enumerate(ATTRIBUTE_PROMPTS)]
        assert {task["num_references"] for task in attributes} == {3}


def test_references_are_the_photos_and_no_held_out_one_is_among_them(exported: Benchmark) -> None:
    for person in range(3):
        given = [load_image(exported.directory / f"references/{person:03}/{index}.png") for index in range(3)]
        for index, pixels in enumerate(given):
            assert np.array_equal(pixels, face_pixels(person, index))
        assert len(exported.real.paths("held-out", f"{person:03}")) == PHOTOS - 3
        held_out = [load_image(path) for path in exported.real.paths("held-out", f"{person:03}")]
        references = [load_image(path) for path in exported.real.paths("references", f"{person:03}")]
        assert not any(np.array_equal(a, b) for a in held_out for b in references)


def test_no_name_and_nothing_of_a_file_is_passed_on(exported: Benchmark) -> None:
    written = files(exported.directory)
    assert {"benchmark.json", "tasks.jsonl", "references/002/2.png", "private/averages/000/00.png"} <= written.keys()
    for path, content in written.items():
        for word in "_".join(NAMES).split("_"):
            assert word not in path
            assert word.encode() not in content
    photos = [exported.directory / path for path in written if path.endswith(".png")]
    for path in photos:
        with Image.open(path) as image:
            assert image.info == {}
    assert {verify(path).state for path in photos} == {MarkState.FOREIGN}  # no photo is called a model's
    record = json.loads(written["benchmark.json"])
    assert "no licence" in record["licence"]
    assert "consent" in record["ethics"]


def test_the_same_photos_give_the_same_tasks_and_others_another_benchmark(
    tasks_recipe: ExperimentRecipe, exported: Benchmark, tmp_path: Path
) -> None:
    again = export_benchmark(tasks_recipe, tmp_path / "again")
    assert files(again.directory) == files(exported.directory)
    assert read_benchmark(tmp_path / "again") == again
    fewer = export_benchmark(replace(tasks_recipe, max_people=2), tmp_path / "fewer")
    rows = read_manifest(tasks_recipe.data.people)
    write_manifest(tmp_path / "people.jsonl", [replace(rows[0], digest="0" * 60 + "0005"), *rows[1:5], *rows[6:]])
    data = replace(tasks_recipe.data, people=tmp_path / "people.jsonl")
    other = export_benchmark(replace(tasks_recipe, data=data), tmp_path / "other")
    assert other.record.tasks_sha256 == exported.record.tasks_sha256  # of other photos
    assert len({exported.id, fewer.id, other.id}) == 3


def test_all_people_of_a_list_but_the_reserved_can_take_part(tasks_recipe: ExperimentRecipe, tmp_path: Path) -> None:
    rows = read_manifest(tasks_recipe.data.people)
    splits = ("train", "test", "reserved")
    write_manifest(tmp_path / "people.jsonl", [replace(row, split=splits[n // PHOTOS]) for n, row in enumerate(rows)])
    data = replace(tasks_recipe.data, people=tmp_path / "people.jsonl")
    own = export_benchmark(replace(tasks_recipe, data=data), tmp_path / "own", everybody=True)
    assert (own.people, own.record.split) == (("000", "001"), "all")


def test_a_killed_export_goes_on_and_ends_with_the_same_bytes(
    tasks_recipe: ExperimentRecipe, exported: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def killed(path: Path, *given: Any, **more: Any) -> None:
        if len(written) == 4:
            raise KeyboardInterrupt
        written.append(path)
        write(path, *given, **more)

    write = export.write_png
    monkeypatch.setattr(export, "write_png", killed)
    with pytest.raises(KeyboardInterrupt):
        export_benchmark(tasks_recipe, tmp_path / "tasks")
    with pytest.raises(DataError, match=r"benchmark\.json does not exist.*Export it again"):
        read_benchmark(tmp_path / "tasks")
    monkeypatch.setattr(export, "write_png", write)
    export_benchmark(tasks_recipe, tmp_path / "tasks")
    assert files(tmp_path / "tasks") == files(exported.directory)


@pytest.mark.parametrize("where", ["references/001/0.png", "private/references/001/00.png", "private/held-out/001/00.png"])
def test_photos_that_changed_since_the_export_are_named(exported: Benchmark, tmp_path: Path, where: str) -> None:
    folder = Path(shutil.copytree(exported.directory, tmp_path / "tasks"))
    other = where.replace("/001/", "/000/")
    shutil.copy(folder / where, folder / other)
    with pytest.raises(DataError, match=rf"tasks is not as it was exported: 1 changed \({other}\);.*Export it again"):
        read_benchmark(folder)
    shutil.rmtree(folder)
    shutil.copytree(exported.directory, folder)
    (folder / where).rename((folder / where).with_name("x.png"))
    added = Path(where).with_name("x.png").as_posix()
    with pytest.raises(DataError, match=rf"1 gone \({where}\); 1 added \({added}\)"):
        read_benchmark(folder)


def test_attributes_and_images_without_a_person_that_changed_are_named(
    tasks_recipe: ExperimentRecipe, toy_model: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "tasks"
    export_benchmark(replace(tasks_recipe, prompt_sets={}, images=1), folder, toy_model)
    image = folder / "private/images/none/0.png"
    for path in (image, folder / "private/attributes.json"):
        before = path.read_bytes()
        path.write_bytes(before + b" ")
        with pytest.raises(DataError, match=rf"1 changed \({path.relative_to(folder).as_posix()}\)"):
            read_benchmark(folder)
        path.write_bytes(before)
    shutil.copy(image, image.with_name("1.png"))
    with pytest.raises(DataError, match=r"1 added \(private/images/none/1\.png\)"):
        read_benchmark(folder)
    image.with_name("1.png").unlink()
    (folder / "private/attributes.json").unlink()
    with pytest.raises(DataError, match=r"1 gone \(private/attributes\.json\)"):
        read_benchmark(folder)
    (folder / "copies.json").write_text("{}")
    with pytest.raises(DataError, match=r"1 changed \(copies\.json\)"):
        read_benchmark(folder)
    (folder / "copies.json").unlink()
    with pytest.raises(DataError, match=r"copies\.json does not exist"):
        read_benchmark(folder)


def test_an_export_that_is_killed_while_the_control_is_drawn_is_not_taken_as_whole(
    tasks_recipe: ExperimentRecipe, toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = replace(tasks_recipe, prompt_sets={}, images=2), tmp_path / "tasks"
    export_benchmark(recipe, folder)

    def killed(recipe: ExperimentRecipe, model: Any, output: Path) -> None:
        draw(replace(recipe, images=1), model, output)
        raise KeyboardInterrupt

    draw = export.draw_without_identity
    monkeypatch.setattr(export, "draw_without_identity", killed)
    with pytest.raises(KeyboardInterrupt):
        export_benchmark(recipe, folder, toy_model)
    with pytest.raises(DataError, match=r"1 added \(private/images/none/0\.png\).*Export it again"):
        read_benchmark(folder)
    monkeypatch.setattr(export, "draw_without_identity", draw)
    assert export_benchmark(recipe, folder, toy_model) == read_benchmark(folder)


def test_private_photos_are_made_anew_from_the_same_photos(
    tasks_recipe: ExperimentRecipe, exported: Benchmark, tmp_path: Path
) -> None:
    shutil.copytree(exported.directory, tmp_path / "tasks", ignore=lambda *_: ["private"])
    export_benchmark(tasks_recipe, tmp_path / "tasks")
    assert files(tmp_path / "tasks") == files(exported.directory)


def test_another_export_or_a_foreign_folder_is_refused(
    tasks_recipe: ExperimentRecipe, exported: Benchmark, tmp_path: Path
) -> None:
    before = files(exported.directory)
    with pytest.raises(CheckpointError, match=r"export of a benchmark with other settings: images 2, not 3;"):
        export_benchmark(replace(tasks_recipe, images=3), exported.directory)
    with pytest.raises(CheckpointError, match="split validation, not all"):
        export_benchmark(tasks_recipe, exported.directory, everybody=True)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="Choose another folder"):
        export_benchmark(tasks_recipe, tmp_path)
    assert files(exported.directory) == before
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(RecipeError, match=r"max_people is 1; .*2 or more: one person alone has no impostors"):
        export_benchmark(replace(tasks_recipe, max_people=1), tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_a_model_draws_the_control_from_the_prompts_alone(
    tasks_recipe: ExperimentRecipe, exported: Benchmark, toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(tasks_recipe, prompt_sets={}, images=1)
    alone = export_benchmark(recipe, tmp_path / "tasks")
    drawn = export_benchmark(recipe, tmp_path / "tasks", toy_model)  # may come later
    assert (drawn.id, drawn.tasks) == (alone.id, alone.tasks)
    assert drawn.record.copies_sha256 != alone.record.copies_sha256
    assert [path.name for path in (tmp_path / "tasks/private/images/none").iterdir()] == ["0.png"]
    assert verify(tmp_path / "tasks/private/images/none/0.png").state == MarkState.MARKED
    assert alone.id != exported.id
    monkeypatch.setattr(toy_model, "name", "other@0")
    with pytest.raises(CheckpointError, match=r"has a control of the model toy.*all rows of a table have one control"):
        export_benchmark(recipe, tmp_path / "tasks", toy_model)


def changed(name: str, old: str, new: str) -> Callable[[Path], object]:
    def change(folder: Path) -> object:
        text = (folder / name).read_text()
        assert old in text
        return (folder / name).write_text(text.replace(old, new, 1))

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (changed("tasks.jsonl", "a portrait photo", "a drawing"), "tasks.jsonl has changed since it was exported"),
        (changed("tasks.jsonl", "portrait/1/000/0.png", "../../other/0.png"), "has changed"),
        (changed("benchmark.json", '"version": 1', '"version": 2'), "version 2 of the protocol, and this tenth has 1"),
        (changed("benchmark.json", '"kind": "benchmark"', '"kind": "x"'), "is no benchmark's"),
        (changed("benchmark.json", '"num_tasks": 72', '"num_tasks": -1'), "num_tasks"),
        (changed("benchmark.json", '"people": [', '"people": [["x"],'), "people"),
        (lambda folder: (folder / "tasks.jsonl").unlink(), "tasks.jsonl does not exist"),
        (lambda folder: (folder / "benchmark.json").write_text("["), "is not JSON"),
        (lambda folder: shutil.rmtree(folder / "private/held-out/001"), "private has no photos of person 001"),
    ],
)
def test_what_is_no_whole_benchmark_is_refused(
    exported: Benchmark, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(exported.directory, tmp_path / "tasks"))
    spoil(folder)
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        read_benchmark(folder)
    assert "docs/benchmark.md" in caught.value.action


def test_the_prompts_are_those_of_the_comparison() -> None:
    for name in ("comparison-validation", "comparison-test"):
        recipe = read_experiment(ROOT / f"recipes/{name}.toml")
        assert recipe.prompt_sets["attributes"].prompts == ATTRIBUTE_PROMPTS
        assert recipe.prompt == ExperimentRecipe.__dataclass_fields__["prompt"].default
