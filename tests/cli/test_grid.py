"""`tenth generate --grid`: each cell is what a plain command gives, the sheet says which it is, a stopped grid goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from tenth.cli.main import main
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import Pixels
from tenth.evaluation.candidates import CandidateFigures
from tenth.experiments.generation import candidates, run
from toy_marks import assert_marked

Output = pytest.CaptureFixture[str]
Draw = Callable[..., int]
AXES = ("--grid", "seed=1,2", "--grid", "steps=1,2", "--grid", "prompt=a man, old|a {red|blue} hat")


@pytest.fixture
def draw(
    identity_file: Path,
    toy_folder: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Draw:
    """`tenth generate` of the toy identity. The toy draws no faces: the brighter an image, the more it is like the person."""

    def measure(images: Sequence[Pixels], _: object) -> list[CandidateFigures]:
        return [CandidateFigures(float(pixels.mean()) / 255, 50.0, 1.0, False, 200) for pixels in images]

    monkeypatch.setattr(candidates, "measure_candidates", measure)
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.chdir(tmp_path)
    return lambda *more: main(["generate", str(identity_file), "--model", str(toy_folder), *more])


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_each_cell_has_the_bytes_of_a_plain_command(draw: Draw, tmp_path: Path) -> None:
    assert draw(*AXES, "-o", "grid") == 0
    cells = product(("a man, old", "a {red|blue} hat"), ("1", "2"), ("1", "2"))
    for number, (prompt, steps, seed) in enumerate(cells):
        folder = f"plain-{number}"
        assert draw("--prompt", prompt, "--steps", steps, "--seed", seed, "-n", "1", "-o", folder) == 0
        plain = (tmp_path / folder / "0000.png").read_bytes()
        assert (tmp_path / "grid" / f"{number:04d}.png").read_bytes() == plain

    assert_marked(*(tmp_path / "grid").rglob("*.png"))

    # The record, and the sheet: columns, rows and groups of rows.
    record = json.loads((tmp_path / "grid/run.json").read_text())
    assert [axis["name"] for axis in record["settings"]["grid"]] == ["seed", "steps", "prompt"]
    assert [each["sampling"]["steps"] for each in record["settings"]["requests"]] == [1, 1, 2, 2] * 2
    assert all(0 < each["identity"] < 1 for each in record["results"]["figures"].values())
    assert len(record["results"]["figures"]) == 8
    with Image.open(tmp_path / "grid/sheet.png") as sheet:
        assert sheet.height > 4 * 256


@pytest.mark.slow
def test_what_some_cells_alone_do_not_read_is_said_of_these(draw: Draw, capsys: Output) -> None:
    asked = ("--prompt", "a man", "--negative-prompt", "a hat", "--steps", "1")
    assert draw(*asked, "--grid", "guidance_scale=1,3", "-o", "some") == 0
    assert (
        "in 1 of 2 images the negative prompt is not read: guidance, which leads away from it, is off;"
        in capsys.readouterr().err
    )
    assert draw(*asked, "--guidance-scale", "1", "-n", "1", "-o", "all") == 0
    assert "\nthe negative prompt is not read" in "\n" + capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "plain"),
    [
        ('style=none,clay|negative_prompt="a beard"', ("--style", "clay", "--negative-prompt", "a beard")),
        ("adapter_scale=1,0.3|size=128,64x128", ("--adapter-scale", "0.3", "--size", "64x128")),
        ("scheduler=own,ddim|guidance_scale=2,4.5", ("--scheduler", "ddim", "--guidance-scale", "4.5")),
        ("text_guidance=0,5|guidance_interval=0 1,0.2 0.9", ("--text-guidance", "5", "--guidance-interval", "0.2", "0.9")),
    ],
)
def test_the_last_cell_of_any_axes_too(axes: str, plain: tuple[str, ...], draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "styles.toml").write_text('[clay]\nprompt = "{prompt} of clay"\nnegative_prompt = "metal"\n')
    shared = ["--prompt", "a man", "--steps", "2"]
    styled = ["--styles", "styles.toml"] if "style" in axes else []
    given = [word for axis in axes.replace('"', "").split("|") for word in ("--grid", axis)]
    assert draw(*shared, *styled, *given, "-o", "grid") == 0
    assert draw(*shared, *styled, *plain, "-n", "1", "-o", "plain") == 0
    last = max((tmp_path / "grid").glob("0*.png"))
    assert last.read_bytes() == (tmp_path / "plain/0000.png").read_bytes()
    assert last.name == f"{2 ** axes.count(',') - 1:04d}.png"


@pytest.mark.slow
def test_methods_of_a_grid(face_photos: list[Path], toy_folder: Path, draw: Draw, tmp_path: Path) -> None:
    (tmp_path / "me").mkdir()
    for photo in face_photos[:2]:
        (tmp_path / "me" / photo.name).write_bytes(photo.read_bytes())
    shared = ["generate", "me", "--model", str(toy_folder), "--prompt", "a man", "--steps", "1"]
    assert main([*shared, "--grid", "method=ip-adapter-avg,ip-adapter-concat", "--grid", "seed=1-2", "-o", "grid"]) == 0
    assert main([*shared, "--method", "ip-adapter-concat", "--seed", "2", "-n", "1", "-o", "plain"]) == 0
    assert (tmp_path / "grid/0003.png").read_bytes() == (tmp_path / "plain/0000.png").read_bytes()
    found = [read_sample(tmp_path / f"grid/{number:04d}.png")["method"] for number in range(4)]
    assert found == ["ip-adapter-avg", "ip-adapter-concat"] * 2


def test_what_no_axis_has_is_taken_from_an_image(draw: Draw, tmp_path: Path) -> None:
    assert draw("--prompt", "a man", "--steps", "2", "--seed", "9", "-n", "1", "-o", "first") == 0
    assert draw("--settings-from", "first/0000.png", "--grid", "guidance_scale=1,3", "-o", "grid") == 0
    assert (tmp_path / "grid/0000.png").read_bytes() == (tmp_path / "first/0000.png").read_bytes()


@pytest.mark.slow
def test_a_grid_that_was_stopped_goes_on(draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    assert draw(*AXES, "-o", "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_sheet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert draw(*AXES, "-o", "stopped") == 130
    (tmp_path / "stopped/0005.png").unlink()
    assert draw(*AXES, "-o", "stopped") == 0
    whole, stopped = files(tmp_path / "whole"), files(tmp_path / "stopped")
    assert whole.keys() == stopped.keys()
    assert {name for name in whole if whole[name] != stopped[name]} <= {"run.json"}  # which has times
    capsys.readouterr()
    assert draw("--grid", "seed=1,2", *AXES[2:4], "--prompt", "a man", "-o", "stopped") == 1
    assert "holds the images of another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "answer"),
    {
        ("--grid", "seed"): (2, "'seed' has no ="),
        ("--grid", "sed=1,2"): (2, "Did you mean seed?"),
        ("--grid", "seed=1,,2"): (2, "has an empty value"),
        ("--grid", "seed=1,2,1"): (2, "has 1 twice"),
        ("--grid", "seed=0-1000"): (2, "1,001 values"),
        ("--grid", "seed=5-1"): (2, "the smaller number is needed first"),
        ("--grid", "steps=0,4"): (2, "steps is 0"),
        ("--grid", "guidance_scale=high"): (2, "a number is needed"),
        ("--grid", "scheduler=dddim"): (2, "Did you mean ddim?"),
        ("--grid", "size=100"): (2, "multiples of 8"),
        ("--grid", "seed=1-50", "--grid", "steps=1-50"): (2, "2,500 cells; at most 1,000"),
        ("--grid", "seed=1", "--grid", "seed=2"): (2, "two axes of seed"),
        ("--grid", "seed=1", "--grid", "steps=1", "--grid", "style=none", "--grid", "size=64"): (2, "4 axes"),
        ("--grid", "steps=1,2", "--steps", "2"): (2, "an axis of --grid has its values"),
        ("--grid", "seed=1,2", "-n", "2"): (2, "one image of each cell"),
        ("--grid", "seed=1,2", "--candidates", "2"): (2, "one image of each cell"),
        ("--grid", "seed=1,2", "--prompt", "a woman"): (2, 'several are an axis: --grid "prompt=A|B"'),
        ("--grid", "style=none,clai"): (1, "'clai' is not a style"),
        ("--grid", "method=ip-adapter,ip-adapter-avg"): (1, "of the grid (method=ip-adapter-avg): the method"),
        ("--grid", "steps=25,60", "--grid", "scheduler=lcm,ddim"): (1, "cell 2 of the grid (steps=60, scheduler=lcm)"),
        ("--grid", "size=128,1024"): (1, "cell 2 of the grid (size=1024)"),
        ("--grid", "seed=1,2", "--fast", "lcm", "--grid", "scheduler=own,lcm"): (2, "it names a scheduler, which is an axis"),
    }.items(),
)
def test_a_bad_grid_is_one_line_and_nothing_is_written(
    given: tuple[str, ...], answer: tuple[int, str], draw: Draw, tmp_path: Path, capsys: Output
) -> None:
    assert draw("--prompt", "a man", *given, "-o", "out") == answer[0]
    found = capsys.readouterr()
    assert answer[1] in " ".join(found.err.split())
    assert found.out == ""
    assert [line for line in found.err.splitlines() if line.startswith("tenth")] == found.err.splitlines()
    assert not (tmp_path / "out").exists()


def test_a_grid_needs_a_prompt(draw: Draw, capsys: Output) -> None:
    assert draw("--grid", "seed=1,2", "-o", "out") == 2
    assert "--prompt" in capsys.readouterr().err
