"""The experiment on toy people: drawn pixels, a recogniser that reads colours, and a generator that returns photos."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenth import experiment
from tenth.data.people import Row, write_rows
from tenth.data.split import Parted
from tenth.diffusion import Sampling
from tenth.errors import CheckpointError, DataError, InputError, RecipeError
from tenth.evaluate.held_out import check_apart, part_people
from tenth.experiment import NOBODY, REAL, ExperimentRecipe, claim, read_experiment, run_experiment
from tenth.generate import Request, generate, read_sample
from tenth.identity import load_identity
from tenth.pocket.faces import People
from tenth.types import Face, Photo, Pixels, Sample

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
NAMES = ("Zebulon_Quux", "Ottoline_Vark", "Philo_Wexcombe")
COLOURS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))
FACE = Face((32, 32, 96, 96), np.array([[88.0, 55], [72, 55], [40, 55], [56, 55], [64, 76]]))
PHOTOS = 6  # of each person


def drawn(person: int, photo: int) -> Pixels:
    """Blocks around a person's colour: (128, 128, 3)."""
    noise = np.random.default_rng(100 * person + photo).integers(-40, 40, (16, 16, 3))
    return (np.array(COLOURS[person]) + noise).astype(np.uint8).repeat(8, 0).repeat(8, 1)


def digest(person: int, photo: int) -> str:
    return f"{person * 100 + photo:064x}"


def located(_: People, row: Row) -> Photo:
    person, photo = divmod(int(row.digest, 16), 100)
    return Photo(drawn(person, photo), row.digest, row.file, FACE)


class Colours:
    """A recogniser of the colours in sixteen places, (N, 48)."""

    name, width = "colours@0", 48

    def __init__(self, *_: Any) -> None: ...

    def __call__(self, pixels: Sequence[Pixels]) -> Any:
        rows = np.stack([image.reshape(4, 32, 4, 32, 3).mean((1, 3)).ravel() - 107.0 for image in pixels])
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def recipe(tmp_path: Path, toy_model: Any, monkeypatch: pytest.MonkeyPatch) -> ExperimentRecipe:
    rows = [
        Row(f"{name}/{name}_{photo:04}.jpg", name, "validation", 1, "a photo", ("a photo",), digest(person, photo))
        for person, name in enumerate(NAMES)
        for photo in range(PHOTOS)
    ]
    write_rows(tmp_path / "people.jsonl", rows)
    monkeypatch.setattr(People, "located", located)
    monkeypatch.setattr(experiment, "load_model", lambda _: toy_model)
    monkeypatch.setattr(experiment, "open_recogniser", Colours)
    monkeypatch.setattr(experiment, "DlibRecogniser", Colours)
    return ExperimentRecipe(
        data=People(tmp_path / "people.jsonl", tmp_path),
        split="validation",
        methods=("ip-adapter", "ip-adapter-avg"),
        images=2,
        references=3,
        judge=tmp_path / "judge.toml",
        sampling=Sampling(steps=1),
    )


def held_out_photos(model: Any, requests: Sequence[Request], sampling: Sampling) -> Iterator[Sample]:
    """In place of `generate`: the person's first held-out photo; for nobody, grey noise."""
    for request in requests:
        pixels, method = np.random.default_rng(request.seed).integers(90, 120, (128, 128, 3), dtype=np.uint8), "none"
        if request.identity is not None:
            method, person = request.identity.method, int(request.identity.photos[0], 16) // 100
            pixels = experiment.crop_of(Photo(drawn(person, 3), "", face=FACE))
        yield Sample(pixels, request.prompt, request.seed, method, model.name, asdict(sampling), 0.0)


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "generate", held_out_photos)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("copying")
def test_the_right_person_is_above_a_stranger_and_controls_are_rows(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    text = run_experiment(recipe, tmp_path / "out")
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["settings"]["methods"] == list(recipe.methods)
    assert list(record["results"]["identity"]) == sorted(["colours@0", experiment.CHOOSING])
    assert record["results"]["people"] == ["000", "001", "002"]
    rows = {row["method"]: row for row in record["results"]["identity"]["colours@0"]}
    assert list(rows) == [*recipe.methods, NOBODY, REAL]
    for name in recipe.methods:
        assert rows[name]["similarity"]["value"] > rows[name]["stranger"]["value"] + 0.3
        assert rows[name]["similarity"]["value"] > rows[NOBODY]["similarity"]["value"] + 0.3
        assert rows[name]["copy"]["value"] == pytest.approx(-1)  # a held-out photo, copied
    assert rows[REAL]["copy"]["value"] == pytest.approx(1)  # the references themselves
    assert text == (tmp_path / "out/table.md").read_text()
    assert text.count("| ip-adapter-avg |") == 2
    assert run_experiment(recipe, tmp_path / "out") == text  # finished: nothing is done again


def test_an_interrupted_run_goes_on_and_ends_with_the_same_bytes(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def counted(model: Any, requests: Sequence[Request], sampling: Sampling) -> Iterator[Sample]:
        for number, sample in enumerate(generate(model, requests, sampling)):
            if len(asked) == 4 and number == 2:
                raise KeyboardInterrupt
            yield sample
        asked.extend(requests)

    recipe = replace(recipe, methods=("ip-adapter-avg",), images=3, most_people=2)
    monkeypatch.setattr(experiment, "generate", counted)
    with pytest.raises(KeyboardInterrupt):
        run_experiment(recipe, tmp_path / "one")
    assert len(list((tmp_path / "one/images").rglob("*.png"))) == 6
    before = files(tmp_path / "one/images")
    monkeypatch.setattr(experiment, "generate", lambda *given: asked.extend(given[1]) or generate(*given))
    run_experiment(recipe, tmp_path / "one")
    assert len(asked) == 4 + 4 + 1  # the first batch stands, the second is drawn whole again
    monkeypatch.setattr(experiment, "generate", generate)
    run_experiment(recipe, tmp_path / "two")
    one, two = files(tmp_path / "one"), files(tmp_path / "two")
    assert one.pop("run.json")  # the only file with a time in it
    assert two.pop("run.json")
    assert one == two
    assert before.items() <= files(tmp_path / "two/images").items()


@pytest.mark.usefixtures("copying")
def test_no_name_is_in_any_output(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    run_experiment(recipe, tmp_path / "out")
    written = files(tmp_path / "out")
    assert {"run.json", "settings.json", "table.md", "sheet.png", "images/ip-adapter/002/1.png"} <= written.keys()
    assert read_sample(tmp_path / "out/images/ip-adapter/002/1.png")["seed"] == 1
    for path, content in written.items():
        for word in "_".join(NAMES).split("_"):
            assert word not in path
            assert word.encode() not in content


@pytest.mark.usefixtures("copying")
def test_a_method_of_one_photo_uses_three_in_turn(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    recipe = replace(recipe, images=4)
    run_experiment(recipe, tmp_path / "out")
    pictures = experiment.list_pictures(recipe, ["001"], tmp_path / "out")
    used = {name: [load_identity(p.identity).photos for p in pictures[name, "001"] if p.identity] for name in recipe.methods}
    assert used["ip-adapter"] == [(digest(1, photo),) for photo in (0, 1, 2, 0)]
    assert used["ip-adapter-avg"] == [tuple(digest(1, photo) for photo in range(3))] * 4


@pytest.mark.usefixtures("copying")
def test_another_recipe_or_a_foreign_folder_is_refused(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    run_experiment(recipe, tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"another images, sampling; .*Choose another folder"):
        run_experiment(replace(recipe, images=3, sampling=Sampling(steps=2)), tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="holds no experiment"):
        claim(tmp_path / "mine", {})


def test_sides_do_not_meet(recipe: ExperimentRecipe) -> None:
    rows = recipe.data.rows("validation")
    again = replace(rows[0], file=f"{NAMES[0]}/again.jpg")
    write_rows(recipe.data.people, [rows[0], again, *rows[1:]])
    number, parted = next(part_people(recipe.data, "validation", references=3, held_out=10))
    assert number == "000"
    assert [photo.digest for photo in parted.references] == [digest(0, photo) for photo in range(3)]
    assert [photo.digest for photo in parted.held_out] == [digest(0, photo) for photo in range(3, PHOTOS)]
    brighter = Photo(parted.references[0].pixels + np.uint8(3), "0" * 64, face=FACE)
    for met in (parted.references[0], brighter):
        with pytest.raises(DataError, match="also a reference"):
            check_apart(Parted(parted.references, (met,)))


def test_people_with_too_few_photos_are_left_out_and_numbers_stay(recipe: ExperimentRecipe, tmp_path: Path) -> None:
    rows = recipe.data.rows("validation")
    write_rows(recipe.data.people, rows[PHOTOS - 3 :])  # the first person has three photos left
    sides = dict(part_people(recipe.data, "validation", references=3, held_out=1))
    assert list(sides) == ["001", "002"]
    assert [len(parted.held_out) for parted in sides.values()] == [1, 1]
    with pytest.raises(DataError, match=r"2 validation people have 3 references.*3 are needed"):
        run_experiment(replace(recipe, least_people=3), tmp_path / "out")


def test_a_person_without_a_face_to_judge_by_is_left_out(
    recipe: ExperimentRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(Colours):
        def __call__(self, pixels: Sequence[Pixels]) -> Any:
            rows = super().__call__(pixels)
            return np.where(rows[:, 1:2] > rows[:, :1], np.nan, rows)  # sees no face in what is greener than red

    monkeypatch.setattr(experiment, "open_recogniser", Blind)
    monkeypatch.setattr(experiment, "generate", held_out_photos)
    run_experiment(replace(recipe, images=1), tmp_path / "out")
    people = json.loads((tmp_path / "out/run.json").read_text())["results"]["people"]
    assert "001" not in people
    assert "000" in people


def test_recipes_in_the_repository_are_read() -> None:
    validation, test = (read_experiment(RECIPES / f"identity-{split}.toml") for split in ("validation", "test"))
    assert (validation.split, test.split) == ("validation", "test")
    assert replace(validation, split="test", least_people=test.least_people) == test
    assert test.judge == Path("judge/judge.toml")
    assert test.sampling == Sampling()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": "train"}, "split is 'train'; needed: one of validation, test"),
        ({"images": 0}, "images is 0"),
        ({"methods": ()}, "methods is"),
        ({"photos_as": "print"}, "crop or photo"),
    ],
)
def test_an_impossible_recipe_says_so(recipe: ExperimentRecipe, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        replace(recipe, **wrong)
    with pytest.raises(InputError, match="'ip-adaptor' is not a method"):
        replace(recipe, methods=("ip-adaptor",))
