"""`tenth generate` and `tenth identity`: what they write, and that nothing of the user's is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tenth.cli.main import main
from tenth.core.config import to_table
from tenth.core.errors import DataError
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.core.types import Identity, Sample
from tenth.methods.identity_file import save_identity
from tenth.methods.ip_adapter import IPAdapter
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.passes.hires import HiresConfig

PROMPT = "a photo of a person"
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "store"))


@pytest.fixture
def draw(identity_file: Path, toy_folder: Path) -> Callable[..., int]:
    """`tenth generate` of the toy identity, two images of one step, with more arguments."""

    def run(output: Path, *more: str) -> int:
        given = ["generate", str(identity_file), "--prompt", PROMPT, "--model", str(toy_folder), "--steps", "1"]
        count = [] if "-n" in more else ["-n", "2"]
        return main([*given, *count, "-o", str(output), *more])

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("0*.png")}


def one_complaint(output: Output) -> str:
    """The one line on stderr of exit code 1; nothing is on stdout."""
    said = output.readouterr()
    assert said.out == ""
    assert said.err.startswith("tenth: ")
    assert said.err.count("\n") == 1
    return said.err


def test_generate_writes_exactly_n_images_and_a_record(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    assert draw(tmp_path / "out", "--seed", "7", "-n", "3") == 0
    names = ["0000.png", "0001.png", "0002.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [*names, "run.json", "sheet.png"]
    assert [read_sample(tmp_path / "out" / name)["seed"] for name in names] == [7, 8, 9]
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(tmp_path / "out" / name) for name in names]
    assert "drawing" in said.err
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["settings"]["seeds"] == [7, 8, 9]
    assert record["settings"]["sampling"]["steps"] == 1
    assert str(tmp_path) not in json.dumps(record)


def test_the_same_command_may_be_run_again_and_gives_the_same_bytes(
    draw: Callable[..., int], tmp_path: Path, capsys: Output
) -> None:
    assert draw(tmp_path / "out") == 0
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert draw(tmp_path / "out", "--json") == 0
    assert contents(tmp_path / "out") == before
    assert json.loads(capsys.readouterr().out) == {"images": [str(tmp_path / "out" / name) for name in sorted(before)]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["-n", "1"], ["--seed", "1"], ["--negative-prompt", "hat"], ["--adapter-scale", "0.5"]], ids=" ".join
)
def test_another_runs_images_are_not_replaced(
    more: list[str], draw: Callable[..., int], tmp_path: Path, capsys: Output
) -> None:
    assert draw(tmp_path / "out") == 0
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert draw(tmp_path / "out", *more) == 1
    assert "holds the images of another run" in one_complaint(capsys)
    assert contents(tmp_path / "out") == before


def test_a_folder_of_the_users_is_not_written_into(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    assert draw(tmp_path) == 1
    assert "an empty or new folder is needed" in one_complaint(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_words_that_the_model_never_saw_are_said(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    assert draw(tmp_path / "out", "--negative-prompt", "an astronaut") == 0
    said = capsys.readouterr()
    assert "never seen these words, and generates as if they were not there: astronaut" in said.err
    assert "astronaut" not in said.out


def test_an_identity_of_another_model_is_refused(identity_file: Path, toy_folder: Path, tmp_path: Path, capsys: Output) -> None:
    model = load_model(str(toy_folder))
    other = Identity("ip-adapter", "other@0", model.encoder.name, model.adapter_name, torch.ones(1, 128))
    save_identity(other, tmp_path / "other.safetensors")
    given = ["--prompt", PROMPT, "--model", str(toy_folder), "-o", str(tmp_path / "out")]
    assert main(["generate", str(tmp_path / "other.safetensors"), *given]) == 1
    assert "made for model other@0" in one_complaint(capsys)


@pytest.mark.slow
def test_photos_to_identity_to_images(face_photos: list[Path], toy_folder: Path, tmp_path: Path, capsys: Output) -> None:
    folder, file = str(face_photos[0].parent), tmp_path / "me.safetensors"
    with_model = ["--model", str(toy_folder)]
    assert main(["identity", folder, *with_model, "-o", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    weights = said.pop("weights")
    moves, unit = said.pop("leave_one_out"), said.pop("leave_one_out_unit")
    assert said == {"identity": str(file), "method": "ip-adapter-consensus", "photos": 9}
    assert list(moves) == list(weights)
    assert (min(moves.values()) > 0, max(moves.values()) < 1, unit) == (True, True, "cosine distance, 0 none to 2")
    assert list(weights) == [photo.name for photo in face_photos]
    assert sum(weights.values()) == pytest.approx(1)
    before = file.read_bytes()
    assert main(["identity", folder, *with_model, "-o", str(file)]) == 0
    assert file.read_bytes() == before
    capsys.readouterr()
    assert main(["identity", folder, *with_model, "-o", str(file), "--method", "ip-adapter-max"]) == 1
    assert "another method" in one_complaint(capsys)
    drawing = ["--prompt", PROMPT, *with_model, "-n", "1", "--steps", "1"]
    assert main(["generate", str(file), *drawing, "-o", str(tmp_path / "from-file")]) == 0
    assert main(["generate", folder, *drawing, "-o", str(tmp_path / "from-photos")]) == 0
    assert contents(tmp_path / "from-file") == contents(tmp_path / "from-photos")


@pytest.mark.slow
def test_a_trained_method_says_what_it_reads_and_its_identity_draws_the_same_image(
    face_photos: list[Path], toy_folder: Path, tmp_path: Path, capsys: Output
) -> None:
    photos, file, with_model = tmp_path / "photos", tmp_path / "me.safetensors", ["--model", str(toy_folder)]
    photos.mkdir()
    for photo in face_photos[:4]:
        (photos / photo.name).write_bytes(photo.read_bytes())
    drawing = ["--prompt", PROMPT, *with_model, "-n", "1", "--steps", "1"]
    asked = {"ip-adapter-attention": toy_folder / "ip-adapter-attention", "run": tmp_path / "run/final"}
    shutil.copytree(asked["ip-adapter-attention"], asked["run"])
    for name, given in {"ip-adapter-attention": [], "run": ["--method", str(asked["run"])]}.items():
        making = given or ["--method", name]
        capsys.readouterr()
        assert main(["identity", str(photos), *with_model, *making, "-o", str(file), "--json"]) == 0
        said = capsys.readouterr()
        assert f"{name} reads 9 photos: the 4 there are, and 5 of them repeated" in said.err
        assert json.loads(said.out)["weights"] == {}
        assert main(["generate", str(file), *given, *drawing, "-o", str(tmp_path / f"{name}-file")]) == 0
        assert main(["generate", str(photos), *making, *drawing, "-o", str(tmp_path / f"{name}-photos")]) == 0
        assert contents(tmp_path / f"{name}-file") == contents(tmp_path / f"{name}-photos")
        file.unlink()


def test_a_place_that_the_machine_refuses(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "file").write_text("")
    assert draw(tmp_path / "file" / "out") == 1
    assert f"{tmp_path / 'file'} is a file" in one_complaint(capsys)


def test_a_size_is_drawn_recorded_and_explained(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    assert draw(tmp_path / "out", "--size", "256x192") == 0
    said = capsys.readouterr().err
    assert "256x192: generated at 128x128, then enlarged, filled left and right\n" in said
    assert "face" not in said  # none was drawn again
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    done = {"size": "256x192", "passes": ["128x128"], "strength": 0.0, "face_detailed": None, "face_strength": 0.3}
    assert record["settings"]["hires"] == done
    assert record["results"]["faces_detailed"] == []
    assert read_sample(tmp_path / "out" / "0001.png")["size"] == "256x192"
    before = contents(tmp_path / "out")
    assert draw(tmp_path / "out", "--size", "256x192") == 0
    assert contents(tmp_path / "out") == before
    capsys.readouterr()
    assert draw(tmp_path / "out", "--size", "256") == 1
    assert "holds the images of another run" in one_complaint(capsys)


def test_a_face_that_was_generated_again_is_said(
    draw: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    squares = iter([None, (8, 8, 32)])
    monkeypatch.setattr("tenth.sampling.passes.hires.face_crop_box", lambda *_: next(squares))
    assert draw(tmp_path / "out", "--size", "96") == 0
    said = capsys.readouterr().err
    assert "0001.png: its face was generated again at 128x128 and put back; strength 0.3\n" in said
    assert "0000.png: its face" not in said


def test_what_the_model_cannot_draw_is_refused_before_anybody_is_fine_tuned(
    face_photos: list[Path], toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(IPAdapter, "__call__", lambda *_: pytest.fail("learnt"))
    given = [
        "generate",
        str(face_photos[0].parent),
        "--prompt",
        PROMPT,
        "--model",
        str(toy_folder),
        "-o",
        str(tmp_path / "out"),
    ]
    assert main([*given, "--size", "512", "--strength", "0.4"]) == 1
    assert "the strength 0.4 for an image of 512x512; this model knows no detail but that of 128x128" in one_complaint(capsys)
    assert not (tmp_path / "out").exists()


def test_a_strength_that_melts_faces_is_refused_wherever_it_comes_from(
    draw: Callable[..., int], toy_folder: Path, tmp_path: Path, capsys: Output
) -> None:
    """Of an identity file, of an image's settings, in another shape, of the library."""
    png = tmp_path / "large.png"
    metadata = to_table(SamplingConfig()) | {"size": "512x512", "strength": 0.4, "face_strength": 0.4}
    save_sample(Sample(np.zeros((8, 8, 3), np.uint8), PROMPT, 1, "ip-adapter", "sd15@0", metadata, 0.0), png)
    for given in (
        ["--size", "512", "--strength", "0.4"],
        ["--size", "512x768", "--strength", "0.1"],
        ["--settings-from", str(png)],
    ):
        capsys.readouterr()
        assert draw(tmp_path / "out", *given) == 1
        assert "knows no detail but that of 128x128" in one_complaint(capsys)
        assert not (tmp_path / "out").exists()
    requests = [Request(None, PROMPT, 0)]
    with pytest.raises(DataError, match="knows no detail"):
        next(generate(load_model(str(toy_folder)), requests, SamplingConfig(), hires=HiresConfig(512, 512, 0.4)))


def test_a_size_that_cannot_be_is_refused(draw: Callable[..., int], tmp_path: Path, capsys: Output) -> None:
    assert draw(tmp_path / "out", "--size", "1024") == 1
    assert "1024x1024 is 8.0 times 128x128" in one_complaint(capsys)
    for wrong, said in {("--size", "100"): "multiples of 8", ("--strength", "0.3"): "Give a size too"}.items():
        assert draw(tmp_path / "out", *wrong) in (1, 2)
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_option_samples_as_distilled_models_want(
    identity_file: Path, toy_folder: Path, tmp_path: Path, capsys: Output
) -> None:
    given = ["generate", str(identity_file), "--prompt", PROMPT, "-n", "1"]
    faster = ["--fast", "lcm", "--steps", "4", "--guidance-scale", "1.5"]
    for options, expected in ((["--fast", "tcd"], ("tcd", 6, 1.0)), (faster, ("lcm", 4, 1.5))):
        output = tmp_path / options[1]
        assert main([*given, "--model", str(toy_folder), *options, "-o", str(output)]) == 0
        said = read_sample(output / "0000.png")
        assert (said["scheduler"], said["steps"], said["guidance_scale"]) == expected
    capsys.readouterr()
    for options, problem in (
        (["--fast", "lcm", "--scheduler", "ddim"], "leave out --scheduler"),
        (["--fast", "lcm", "--model", "pocket"], "distilled models"),
    ):
        assert main([*given, *options, "-o", str(tmp_path / "none")]) == 2
        assert problem in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
