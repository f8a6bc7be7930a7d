"""`tenth train`, `experiment` and `data`: recipes in, folders claimed, results on stdout."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tenth.cli.main import main
from toy_training import toy_recipe

Output = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toy_recipe(tmp_path / "toy recipe.toml", monkeypatch)


def test_stopped_and_resumed(recipe: Path, tmp_path: Path, capsys: Output) -> None:
    output = tmp_path / "run"
    assert main(["train", str(recipe), "-o", str(output)]) == 130
    said = capsys.readouterr()
    assert said.out == ""
    assert f"Go on with `tenth train '{recipe}' -o {output} --resume`" in said.err
    assert main(["train", str(recipe), "-o", str(output)]) == 1
    assert "is not empty; training starts in an empty folder. Add --resume" in capsys.readouterr().err
    assert main(["train", str(recipe), "-o", str(output), "--resume"]) == 0
    assert capsys.readouterr().out == f"{output / 'final'}\n"


def test_a_changed_recipe_does_not_go_on(recipe: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 130
    recipe.write_text("stage = 'toy'\nimages = 4\n")
    assert main(["train", str(recipe), "-o", str(tmp_path / "run"), "--resume"]) == 1
    assert "was begun with other settings" in capsys.readouterr().err


def test_nothing_to_resume(recipe: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["train", str(recipe), "-o", str(tmp_path / "run"), "--resume"]) == 1
    assert "nothing to resume" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "images = 3",
            (
                "known stages: 'autoencoder', 'decoder', 'base-model', 'adversarial', 'attribute-heads', "
                "'face-attributes', 'adapter', 'toy'"
            ),
        ),
        ("stage = 'dream'", "has stage 'dream'"),
        ("stage = ['toy']", "has stage ['toy']"),
        ("stage = 'toy'\nimages = 3\nsteps = 1", "known keys: images, stage"),
        ("stage = 'toy'", "'images' is missing"),
        ("stage =", "is not TOML"),
    ],
)
def test_a_wrong_recipe_is_one_line_and_makes_no_folder(
    text: str, said: str, recipe: Path, tmp_path: Path, capsys: Output
) -> None:
    recipe.write_text(text)
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_missing_recipe(tmp_path: Path, capsys: Output) -> None:
    for command in ("train", "experiment"):
        assert main([command, str(tmp_path / "none.toml"), "-o", str(tmp_path / "run")]) == 1
        assert "does not exist" in capsys.readouterr().err


def test_an_experiments_tables_go_to_stdout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("tenth.experiments.runner.read_experiment", lambda path, _: path)
    monkeypatch.setattr(
        "tenth.experiments.runner.run_experiment", lambda recipe, output, *_, **__: f"{recipe} -> {output.as_posix()}"
    )
    assert main(["experiment", "recipes/identity.toml"]) == 0
    assert capsys.readouterr().out == "recipes/identity.toml -> runs/identity\n"


def test_lfw_counts_to_stdout_and_notes_to_stderr(tmp_path: Path, capsys: Output) -> None:
    photo = tmp_path / "lfw" / "Ann_Nobody" / "Ann_Nobody_0001.jpg"
    photo.parent.mkdir(parents=True)
    Image.effect_noise((250, 250), 80).convert("RGB").save(photo)
    assert main(["data", "lfw", str(tmp_path / "lfw"), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "1 people" in said.out
    assert "a part of LFW" in said.err
    assert (tmp_path / "out" / "people.jsonl").is_file()


def test_own_people_counts_to_stdout_and_notes_to_stderr(tmp_path: Path, capsys: Output) -> None:
    photo = tmp_path / "people" / "Ann" / "1.png"
    photo.parent.mkdir(parents=True)
    Image.effect_noise((64, 64), 80).convert("RGB").save(photo)
    (photo.parent / "\x1b[2J.png").write_text("")
    assert main(["data", "image-folder", str(tmp_path / "people"), "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "1 people" in said.out
    assert "dropped Ann/\N{REPLACEMENT CHARACTER}[2J.png" in said.out
    assert "\x1b" not in said.out
    assert "1 person has a single usable photo (Ann)" in said.err
    assert (tmp_path / "out" / "people.jsonl").is_file()


def test_no_people_is_one_line(tmp_path: Path, capsys: Output) -> None:
    assert main(["data", "image-folder", str(tmp_path / "none"), "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "none does not exist; a folder of people is needed" in said.err
