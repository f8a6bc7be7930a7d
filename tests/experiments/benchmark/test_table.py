"""From submissions to the table: scores are an experiment's, systems are ranked, pairs are compared, rows are kept."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tenth.core.errors import CheckpointError, DataError
from tenth.core.files.png_metadata import save_sample
from tenth.core.types import Pixels, Sample
from tenth.evaluation.extractors.face_attributes import load_face_attributes
from tenth.evaluation.image_set import load_image
from tenth.evaluation.paired_comparison import compare
from tenth.experiments.benchmark.judges import Judges, LargestFace, load_judges
from tenth.experiments.benchmark.run import check_system, score_folder
from tenth.experiments.benchmark.scoring import SystemName, embed_real_photos, score_submission
from tenth.experiments.benchmark.submission import read_submission
from tenth.experiments.benchmark.table import PersonValues, Row, agreement, row_path, save_row, write_tables
from tenth.experiments.benchmark.tasks import Benchmark
from tenth.experiments.recipe import DLIB, ExperimentRecipe
from tenth.experiments.recognizers import SELECTION_ONLY
from tenth.experiments.runner import run_experiment
from tenth.reporting.results_reader import CONTROLS, IDENTITY, System
from tenth.sampling.config import SamplingConfig
from toy_benchmark import fill, next_person
from toy_people import ColorRecognizer, face_pixels

JUDGES = Judges({"colours@0": ColorRecognizer()}, (), {})
NO_IDENTITY = CONTROLS[-1]


def score(images: Path, exported: Benchmark, name: str, results: Path, *, partial: bool = False, model: str = "") -> str:
    return score_folder(images, exported, SystemName(name, model), JUDGES, results, partial=partial)


@pytest.fixture(scope="module")
def scored(exported: Benchmark, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of three systems: one shows the wrong person, one the right one, and one that, dark, and not everybody."""
    folder = tmp_path_factory.mktemp("systems")
    score(fill(exported.directory, folder / "wrong", next_person), exported, "wrong", folder / "results")
    dark = fill(exported.directory, folder / "dark", shade=0.7)
    shutil.rmtree(dark / "portrait/1/000")
    score(dark, exported, "dark", folder / "results", partial=True)
    score(fill(exported.directory, folder / "right"), exported, "right", folder / "results", model="paste, 1 line")
    return folder / "results"


def record(results: Path) -> Any:
    return json.loads((results / "run.json").read_text())["results"]


def cell(results: Path, method: str, metric: str = "identity-similarity", photos: int = 3) -> Any:
    found = [
        each
        for each in record(results)["scores"]
        if (each["prompt_set"], each["num_photos"], each["method"], each["metric"]) == ("portrait", photos, method, metric)
    ]
    assert len(found) == 1
    return found[0]


def test_systems_and_controls_are_ranked(scored: Path) -> None:
    values = {name: cell(scored, name)["value"] for name in ("right", "dark", "wrong", *CONTROLS[:-1])}
    assert values["right"] > values["dark"] > values["wrong"] + 0.3
    assert values["real photos"] > values["dark"]
    assert values["another person"] == pytest.approx(values["wrong"], abs=0.05)
    assert cell(scored, "verbatim copies", "copy-paste-index")["value"] == pytest.approx(1)
    assert (cell(scored, "right")["n"], cell(scored, "dark")["n"]) == (3, 2)
    settings = json.loads((scored / "run.json").read_text())["settings"]
    assert settings["methods"] == ["right", "wrong", "dark"]  # the best first, in every table; then who lacks people
    assert record(scored)["notes"] == {"dark": ["partial: 2 of 3 people"]}


def test_scores_are_means_of_cosines(exported: Benchmark, scored: Path) -> None:
    recognizer, by_person = ColorRecognizer(), {}
    for person in exported.people:
        paths = [scored.parent / "right" / f"portrait/3/{person}/{seed}.png" for seed in (0, 1)]
        generated, held_out = (
            recognizer([load_image(path) for path in side]) for side in (paths, exported.real.paths("held-out", person))
        )
        by_person[person] = (generated @ held_out.T).mean()
    row = json.loads((scored / "rows/right.json").read_text())["results"]
    kept = [each for each in row["values"] if (each["prompt_set"], each["num_photos"]) == ("portrait", 3)]
    assert kept[0]["by_person"] == pytest.approx(by_person, abs=1e-6)
    assert cell(scored, "right")["value"] == pytest.approx(np.mean(list(by_person.values())), abs=1e-6)


def test_every_pair_is_compared_on_the_people_of_both(scored: Path) -> None:
    values = {}
    for name in ("dark", "right", "wrong"):
        row = json.loads((scored / f"rows/{name}.json").read_text())["results"]
        found = [each for each in row["values"] if (each["prompt_set"], each["num_photos"]) == ("portrait", 3)]
        values[name] = found[0]["by_person"]
    pairs = [each for each in record(scored)["differences"] if (each["prompt_set"], each["num_photos"]) == ("portrait", 3)]
    assert [(each["method"], each["baseline"], each["n"]) for each in pairs] == [
        ("dark", "right", 2),
        ("dark", "wrong", 2),
        ("right", "wrong", 3),
    ]
    alone = compare({name: values[name] for name in ("right", "wrong")})[0]
    assert (pairs[2]["value"], pairs[2]["low"], pairs[2]["p_value"]) == (alone.value, alone.low, alone.p_value)
    assert [each["p_holm"] for each in pairs] == [each.p_holm for each in compare(values, common_people=True)]
    assert all(each["p_holm"] >= each["p_value"] for each in pairs)
    assert len(record(scored)["differences"]) == 3 * 3  # two numbers of portraits, and the attributes


def test_the_csv_has_every_row_with_its_model_and_size(scored: Path) -> None:
    lines = list(csv.DictReader((scored / "table.csv").open()))
    main = [
        line for line in lines if (line["prompt_set"], line["photos"], line["recognizer"]) == ("portrait", "3", "colours@0")
    ]
    assert [line["row"] for line in main] == ["right", "wrong", "dark", *CONTROLS[:-1]]
    assert [line["kind"] for line in main] == ["system"] * 3 + ["control"] * 4
    assert (main[0]["model"], main[0]["width"], main[0]["height"]) == ("paste, 1 line", "128", "128")
    assert float(main[0]["identity-similarity"]) == cell(scored, "right")["value"]
    assert main[2]["identity-similarity-n"] == "2"
    pairs = list(csv.DictReader((scored / "differences.csv").open()))
    assert float(pairs[0]["difference"]) == record(scored)["differences"][0]["value"]
    assert len(pairs) == len(record(scored)["differences"])
    assert "| `right` (paste, 1 line, 128 x 128 pixels) |" in (scored / "table.md").read_text()
    assert "| `dark` (128 x 128 pixels, partial: 2 of 3 people) |" in (scored / "table.md").read_text()
    assert "128 x 128 pixels, partial: 2 of 3 people" in (scored / "report.html").read_text()


@pytest.mark.usefixtures("copying")
def test_scores_are_those_of_an_experiment(recipe: ExperimentRecipe, exported: Benchmark, tmp_path: Path) -> None:
    recipe = replace(recipe, methods=("ip-adapter-avg",), images=2, photo_counts=(1, 3))
    run_experiment(recipe, tmp_path / "run")
    images = fill(exported.directory, tmp_path / "images")
    for photos in (1, 3):
        shutil.rmtree(images / f"portrait/{photos}")
        shutil.copytree(tmp_path / f"run/images/{photos}/ip-adapter-avg", images / f"portrait/{photos}")
    row = score_submission(exported, read_submission(images, exported), SystemName("ip-adapter-avg"), JUDGES)

    def portraits(scores: Sequence[Any]) -> list[Any]:
        return [
            each
            for each in scores
            if (each["prompt_set"], each["recognizer"]) == ("portrait", "colours@0") and each["method"] != NO_IDENTITY
        ]

    expected = portraits(json.loads((tmp_path / "run/run.json").read_text())["results"]["scores"])
    assert len(expected) > 30
    assert portraits(row["scores"]) == expected


def test_images_of_no_person_are_a_control_where_the_export_drew_them(
    exported: Benchmark, folder: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(exported.directory, tmp_path / "tasks"))
    none = directory / "private/images/none"
    none.mkdir(parents=True)
    for seed in (0, 1):
        settings = asdict(SamplingConfig(steps=1))
        save_sample(Sample(face_pixels(0, seed), "a portrait", seed, "none", "toy@0", settings, 0.0), none / f"{seed}.png")
    score(folder, replace(exported, directory=directory), "x", tmp_path / "results")
    assert cell(tmp_path / "results", NO_IDENTITY)["n"] == 3
    found = record(tmp_path / "results")
    assert {each["prompt_set"] for each in found["scores"] if each["method"] == NO_IDENTITY} == {"portrait"}
    assert found["systems"][-1] == {"method": NO_IDENTITY, "model": "toy@0", "width": 128, "height": 128}


def test_a_name_stands_for_the_same_images_and_a_row_for_the_same_tasks(
    exported: Benchmark, folder: Path, scored: Path, tmp_path: Path
) -> None:
    results = Path(shutil.copytree(scored, tmp_path / "results"))
    before = row_path(results, "dark").read_bytes()
    with pytest.raises(CheckpointError, match=r"dark\.json is the row of other images.*another --name"):
        score(folder, exported, "dark", results)
    assert row_path(results, "dark").read_bytes() == before
    tables = {name: (results / name).read_bytes() for name in ("table.csv", "differences.csv", "table.md")}
    score(folder, exported, "right", results, model="paste, 1 line")  # the same images: measured again
    assert {name: (results / name).read_bytes() for name in tables} == tables

    other = replace(exported, record=replace(exported.record, id="0" * 12))
    with pytest.raises(DataError, match=r"is of the tasks .*; a table is of one benchmark, here 000000000000"):
        write_tables(results, other)
    damaged = json.loads(before)
    damaged["results"]["scores"][0]["value"] = "much"
    row_path(results, "dark").write_text(json.dumps(damaged))
    with pytest.raises(DataError, match=r"dark\.json.*a row that `tenth benchmark score` wrote is needed"):
        write_tables(results, exported)


def test_what_keeps_a_row_out_of_the_table_is_said_before_scoring(
    exported: Benchmark, folder: Path, scored: Path, tmp_path: Path
) -> None:
    row = row_path(scored, "dark").read_text()
    cases = {
        "copy": (row, r"copy\.json is the row of 'dark'; .*a copy would count twice"),
        "right": (row, r"right\.json is the row of 'dark'"),
        "dark": ("[]", r"dark\.json is no record of tenth's; a row that `tenth benchmark score` wrote is needed"),
    }
    for name, (text, said) in cases.items():
        results = Path(shutil.copytree(scored, tmp_path / name))
        row_path(results, name).write_text(text)
        with pytest.raises(DataError, match=said):
            score_folder(folder, exported, SystemName("new"), Judges({}, (), {}), results)
        assert not row_path(results, "new").exists()


def test_systems_are_ranked_by_one_recognizer(exported: Benchmark, scored: Path, tmp_path: Path) -> None:
    results = Path(shutil.copytree(scored, tmp_path / "results"))
    images = read_submission(fill(exported.directory, tmp_path / "images", next_person), exported)
    by_dlib = Judges({SELECTION_ONLY: ColorRecognizer()}, (), {})
    row = score_submission(exported, images, SystemName("only-dlib"), by_dlib)
    for value in row["scores"]:
        value["value"] = 0.99  # by another recognizer cosines are higher
    save_row(results, exported, row)
    write_tables(results, exported)
    assert json.loads((results / "run.json").read_text())["settings"]["methods"] == ["right", "wrong", "dark", "only-dlib"]
    assert not any("only-dlib" in (each["method"], each["baseline"]) for each in record(results)["differences"])


def test_a_person_whose_photos_show_no_face_to_a_recognizer_is_left_out(exported: Benchmark) -> None:
    class Blind(ColorRecognizer):
        name = "blind@0"

        def __call__(self, pixels: Sequence[Pixels]) -> Any:
            rows = super().__call__(pixels)
            return np.where(rows[:, 1:2] > rows[:, :1], np.nan, rows)  # sees no face in what is greener than red

    people, notes = embed_real_photos(exported, exported.people, Judges({"blind@0": Blind(), **JUDGES.recognizers}, (), {}))
    assert "001" not in [person.person_id for person in people]
    assert notes == ["left out, a recognizer finds no face in their real photos: 001"]
    assert [len(person.references) for person in people] == [2, 2]  # by each recognizer
    with pytest.raises(DataError, match=r"of 0 of 1 people; two people are needed"):
        embed_real_photos(exported, ["001"], Judges({"blind@0": Blind()}, (), {}))


@pytest.mark.parametrize("name", ["", "../x", "a/b", "-x", "x" * 65, "Real photos", "é", "v1.", "NUL", "con.v2", "Lpt1"])
def test_a_name_that_is_no_file_or_a_control_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="Choose another --name"):
        check_system(SystemName(name))
    with pytest.raises(DataError, match="Say it shorter"):
        check_system(SystemName("x", "a\nb"))
    for taken in ("FLUX.1-dev+lora_2", "console", "com", "lpt10", "x", "x" * 64):
        check_system(SystemName(taken, "FLUX.1 [dev], 12B"))


def test_without_a_recognizer_dlibs_judges_and_attributes_are_read_off_the_face(face_photos: list[Path]) -> None:
    judges = load_judges(())
    assert list(judges.recognizers) == list(load_judges([DLIB]).recognizers) == [SELECTION_ONLY]
    scorer = judges.prompt_scorers[0]
    assert isinstance(scorer.classifier, LargestFace)  # type: ignore[attr-defined]
    photo = load_image(face_photos[0])
    framed = np.pad(photo, ((70, 90), (120, 40), (0, 0)), mode="edge")  # smaller, and not in the middle
    rows = scorer([photo, framed, np.zeros((64, 64, 3), np.uint8)])
    assert np.abs(rows[0] - rows[1]).max() < 1  # logits from -14 to 7; dlib finds the face a fraction of a pixel apart
    assert np.abs(rows[0] - load_face_attributes()([framed])[0]).max() > 2  # as a whole it is read as something else
    assert not rows[2].any()
    assert scorer.adherence(rows[2:], ["a photo of a smiling person"])[0] == 0


def test_recognizers_of_all_rows_say_how_far_they_agree() -> None:
    people = [f"{number:03}" for number in range(6)]
    order = {"low": 0.1, "middle": 0.2, "high": 0.3}
    tables = [
        (recognizer, sign, metric)
        for recognizer, sign in (("one", 1), ("other", 2), ("turned", -1))
        for metric in (IDENTITY, "another-metric")
    ]
    rows = [
        Row(
            System(name),
            tuple(people),
            (),
            tuple(
                PersonValues("portrait", 3, 0, metric, recognizer, name, dict.fromkeys(people, value * sign))
                for recognizer, sign, metric in tables
            ),
        )
        for name, value in order.items()
    ]
    found = list(agreement(rows))
    assert [(each["recognizer"], each["other"]) for each in found] == [("one", "other"), ("one", "turned"), ("other", "turned")]
    assert [each["between_methods"]["value"] for each in found] == pytest.approx([1, -1, -1])
    assert {(each["prompt_set"], each["num_photos"], each["num_impostors"]) for each in found} == {("portrait", 3, 0)}
    assert list(agreement(rows[:2])) == []  # of two systems there is no order to speak of
