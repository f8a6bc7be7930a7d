"""`tenth generate`: the best of several candidates, the sheet of a folder, and a folder that nobody named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.cli.main import main
from tenth.core.files.claims import exclusive_folder
from tenth.core.files.png_metadata import read_sample, save_sample
from tenth.core.types import Identity, Pixels, Sample
from tenth.evaluation.candidates import CandidateFigures
from tenth.experiments.generation import candidates, run
from tenth.experiments.generation.sheet import MAX_IMAGES, write_sheet
from tenth.methods.identity_file import save_identity
from tenth.models.registry import load_model
from toy_marks import assert_marked

PROMPT = "a photo of a person"
Output = pytest.CaptureFixture[str]
Draw = Callable[..., int]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands run."""
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def figures_of_toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy draws noise without a face: the brighter it is, the more it is like the person."""

    def measure(images: Sequence[Pixels], _: object) -> list[CandidateFigures]:
        return [CandidateFigures(float(pixels.mean()) / 255, 50.0, 1.0, False, 200) for pixels in images]

    monkeypatch.setattr(candidates, "measure_candidates", measure)


@pytest.fixture
def draw(toy_folder: Path, here: Path) -> Draw:
    """`tenth generate` of a toy identity, images of one step, with more arguments."""
    model = load_model(str(toy_folder))
    made = Identity("ip-adapter", model.name, model.encoder.name, model.adapter_name, torch.ones(1, 128), photos=("0" * 64,))
    save_identity(made, here / "me.safetensors")

    def run(*more: str) -> int:
        return main(["generate", "me.safetensors", "--prompt", PROMPT, "--model", str(toy_folder), "--steps", "1", *more])

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def results(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "run.json").read_text())["results"])


def test_the_best_are_kept_with_the_bytes_of_their_seeds(draw: Draw, here: Path, capsys: Output) -> None:
    assert draw("--seed", "3", "-n", "6", "-o", "all") == 0
    assert draw("--seed", "3", "--candidates", "6", "-n", "2", "-o", "best") == 0
    drawn = sorted((here / "all").glob("0*.png"), key=lambda path: -np.asarray(Image.open(path)).mean())
    assert [(here / "best" / name).read_bytes() for name in ("0000.png", "0001.png")] == [
        each.read_bytes() for each in drawn[:2]
    ]
    assert set(files(here / "best")) == {"0000.png", "0001.png", "run.json", "sheet.png"}
    assert_marked(*(here / "best").glob("*.png"))

    # What was said, and what run.json has of every candidate.
    said = capsys.readouterr()
    assert "kept 2 of 6 candidates: identity 0." in said.err
    assert said.out.splitlines()[-2:] == ["best/0000.png", "best/0001.png"]
    rows = results(here / "best")["candidates"]
    assert [row["seed"] for row in rows] == [3, 4, 5, 6, 7, 8]
    assert {row["kept"] for row in rows} == {None, "0000.png", "0001.png"}
    best = next(row for row in rows if row["kept"] == "0000.png")
    assert best["seed"] == read_sample(here / "best" / "0000.png")["seed"]
    assert best["identity"] == max(row["identity"] for row in rows)
    assert set(best) == {"seed", "kept", "identity", "sharpness", "face_score", "face_cut", "nearest_photo_bits"}
    assert results(here / "best")["figures"]["0000.png"]["identity"] == best["identity"]


def test_all_are_kept_on_request(draw: Draw, here: Path) -> None:
    assert draw("--candidates", "3", "-n", "1", "--keep-all", "-o", "best") == 0
    kept = {f"candidates/{number:04d}.png" for number in range(3)}
    assert set(files(here / "best")) == kept | {"0000.png", "run.json", "sheet.png"}
    before = files(here / "best")
    assert draw("--candidates", "3", "-n", "1", "--keep-all", "-o", "best") == 0
    assert files(here / "best") == before


def test_a_choice_that_was_stopped_goes_on_and_gives_the_same(draw: Draw, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("--candidates", "6", "-n", "2", "-o")
    assert draw(*command, "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_sheet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert draw(*command, "stopped") == 130
    assert (here / "stopped" / "candidates").is_dir()
    assert draw(*command, "stopped") == 0
    whole, stopped = files(here / "whole"), files(here / "stopped")
    assert whole.keys() == stopped.keys()
    assert {name for name in whole if whole[name] != stopped[name]} <= {"run.json"}  # which has times
    (here / "stopped" / "0001.png").unlink()
    assert draw(*command, "stopped") == 0
    assert files(here / "stopped") == stopped


def test_nothing_is_drawn_again_when_all_is_there(draw: Draw, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ("--candidates", "4", "-n", "2", "-o", "best")
    assert draw(*command) == 0
    before = files(here / "best")
    monkeypatch.setattr("tenth.experiments.generation.resumable_images.generate", lambda *_, **__: pytest.fail("drew again"))
    (here / "best" / "sheet.png").unlink()
    assert draw(*command) == 0
    assert files(here / "best") == before


def test_what_is_not_ours_among_candidates_stays(draw: Draw, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_sheet", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert draw("--candidates", "2", "-n", "1", "-o", "best") == 130
    (here / "best" / "candidates" / "letter.txt").write_text("mine")
    assert draw("--candidates", "2", "-n", "1", "-o", "best") == 0
    assert set(files(here / "best")) == {"candidates/letter.txt", "0000.png", "run.json", "sheet.png"}


def test_a_file_of_the_user_s_is_never_replaced_by_a_candidate(
    draw: Draw, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run, "measure_files", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert draw("--candidates", "2", "-n", "1", "-o", "best") == 130
    (here / "best" / "0000.png").write_bytes(b"mine")
    assert draw("--candidates", "2", "-n", "1", "-o", "best") == 1
    assert "best/0000.png exists and is not what would be written" in capsys.readouterr().err
    assert (here / "best" / "0000.png").read_bytes() == b"mine"


def test_the_sheet_shows_photos_then_images(face_photos: list[Path], toy_folder: Path, here: Path) -> None:
    photos = str(face_photos[0].parent)
    assert main(["generate", photos, "--prompt", PROMPT, "--model", str(toy_folder), "--steps", "1", "-n", "5"]) == 0
    with_photos = Image.open(here / "out" / "photos-1" / "sheet.png")
    assert with_photos.size == (2 * 72 + 5 * 272 - 16, with_photos.height)
    shown = np.asarray(with_photos)
    image = np.asarray(Image.open(here / "out" / "photos-1" / "0000.png").resize((256, 256), Image.Resampling.LANCZOS))
    tops = [top for top in range(len(shown) - 256) if (shown[top : top + 256, 72:328] == image).all()]
    assert len(tops) == 1
    assert (shown[: tops[0]] != 255).any(-1).sum() > 9 * 90 * 90  # the photos, above


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4, 7, MAX_IMAGES + 1])
def test_a_sheet_of_any_number_of_images_is_whole(count: int, here: Path) -> None:
    paths = [here / f"{number:04d}.png" for number in range(count)]
    settings = {"negative_prompt": "", "steps": 1, "guidance_scale": 1.0}
    for number, path in enumerate(paths):
        pixels = np.full((16, 16, 3), (255, 0, 0), np.uint8)
        save_sample(Sample(pixels, PROMPT, number, "ip-adapter", "toy@0", settings, 0.0), path)
    write_sheet(here / "sheet.png", [np.full((128, 128, 3), (0, 0, 255), np.uint8)] * count, paths, {})
    pixels = np.asarray(Image.open(here / "sheet.png"))
    assert (pixels == (255, 0, 0)).all(-1).sum() == min(count, MAX_IMAGES) * 256**2
    blue = (pixels == (0, 0, 255)).all(-1).sum()
    assert blue % count == 0
    assert blue > count * 80**2


def test_a_folder_that_nobody_named_is_a_new_one(draw: Draw, here: Path, capsys: Output) -> None:
    for number in (1, 2):
        assert draw("-n", "1") == 0
        assert capsys.readouterr().out == f"out/me-{number}/0000.png\n"
    (here / "out" / "me-3").mkdir()
    (here / "out" / "me-4").symlink_to("nowhere")
    before = files(here / "out")
    assert draw("-n", "1") == 0
    assert capsys.readouterr().out == "out/me-5/0000.png\n"
    assert before.items() <= files(here / "out").items()


def test_a_stopped_run_without_a_named_folder_goes_on_in_its_own(
    draw: Draw, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(run, "write_record", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert draw("-n", "1") == 130
    assert draw("-n", "2") == 0  # another run has another folder
    capsys.readouterr()
    assert draw("-n", "1") == 0
    assert capsys.readouterr().out == "out/me-1/0000.png\n"


BAD = [
    (["--candidates", "2"], 1, "at least the 4 kept"),
    (["--candidates", "0"], 2, "'0' is not"),
    (["--candidates", "-3"], 2, "'-3' is not"),
    (["--candidates", "2.5"], 2, "'2.5' is not"),
    (["--candidates", "many"], 2, "'many' is not"),
    (["--candidates", "10001"], 2, "'10001' is not"),
    (["--candidates", ""], 2, "'' is given"),
    (["--candidates", "8", "--candidates", "9"], 2, "given twice"),
    (["--candidates"], 2, "requires an argument"),
    (["--keep-all"], 1, "it keeps what candidates draws"),
    (["--keep-all", "-n", "2", "--seed", "0"], 1, "it keeps what candidates draws"),
    (["--candidates", "8", "--seed", str(2**63 - 5)], 1, "seed"),
    (["--candidates", "8", "-o", "me.safetensors"], 1, "is a file"),
    (["--candidates", "8", "-o", "used"], 1, "an empty or new folder is needed"),
]


@pytest.mark.parametrize(("options", "code", "said"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_wrong_options_are_refused_in_one_line(
    options: list[str], code: int, said: str, draw: Draw, here: Path, capsys: Output
) -> None:
    (here / "used" / "candidates").mkdir(parents=True)
    before = sorted(here.rglob("*"))
    assert draw(*options) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err
    assert sorted(here.rglob("*")) == before


def test_an_identity_without_faces_is_refused_before_anything_is_drawn(toy_folder: Path, here: Path, capsys: Output) -> None:
    model = load_model(str(toy_folder))
    name, tensor = next(iter(model.pipeline.unet.state_dict().items()))
    weights = {f"unet.{name}.diff": torch.zeros_like(tensor)}
    made = Identity("dreambooth", model.name, model.encoder.name, "", weights=weights, photos=("0" * 64,))
    save_identity(made, here / "tuned.safetensors")
    command = ["generate", "tuned.safetensors", "--prompt", PROMPT, "--model", str(toy_folder), "--steps", "1"]
    assert main([*command, "--candidates", "8"]) == 1
    assert "the person's photos are needed" in capsys.readouterr().err
    assert not (here / "out").exists()


def test_two_at_once_in_one_folder(draw: Draw, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr("tenth.core.files.claims.os.getpid", lambda: next(numbers))
    with exclusive_folder(here / "best"):
        assert draw("--candidates", "4", "-n", "1", "-o", "best") == 1
        assert "another run is writing to" in capsys.readouterr().err


def test_without_candidates_each_seed_is_drawn_and_measured(face_photos: list[Path], here: Path, toy_folder: Path) -> None:
    given = ["--prompt", PROMPT, "--model", str(toy_folder), "--steps", "1", "-n", "2"]
    command = ["generate", str(face_photos[0].parent), *given]
    assert main([*command, "-o", "seeds"]) == 0
    assert [read_sample(here / "seeds" / f"000{number}.png")["seed"] for number in range(2)] == [0, 1]
    assert set(results(here / "seeds")["figures"]) == {"0000.png", "0001.png"}
    assert "candidates" not in results(here / "seeds")
