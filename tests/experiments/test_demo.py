"""The demo: what it writes, that it goes on where it was stopped, and that it never replaces a file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import CheckpointError
from tenth.core.files.png_metadata import read_sample
from tenth.core.run_record import read_record
from tenth.core.types import Face, Person, Photo, Sample
from tenth.experiments.demo import DEMO_METHODS, PROMPTS, SEED, demo
from tenth.experiments.generation import resumable_images as going_on
from tenth.models.latent_diffusion import LatentDiffusion
from tenth.sampling.config import SamplingConfig
from tenth.sampling.prompts.vocabulary import prompt_warnings
from toy_marks import assert_marked

LANDMARKS = np.array([[110.0, 60], [90, 60], [40, 60], [60, 60], [75, 95]])


@pytest.fixture(scope="module")
def person() -> Person:
    """Noise with a face said to be in it: the recognizer describes whatever it is shown."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 150, 150, 3), np.uint8)
    face = Face((30, 30, 120, 120), LANDMARKS)
    return Person("toy", tuple(Photo(pixels, hashlib.sha256(pixels).hexdigest(), face=face) for pixels in pictures))


@pytest.fixture(scope="module")
def output(person: Person, toy_model: LatentDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert demo(person, toy_model, folder, SamplingConfig(steps=1)) == folder / "sheet.png"
    return folder


def images(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.glob("*/*")}


def test_every_method_and_prompt_has_its_image(output: Path) -> None:
    assert set(images(output)) == {f"{name}/{head}.png" for name in DEMO_METHODS for head in PROMPTS}
    assert {path.name for path in output.iterdir()} == {*DEMO_METHODS, "sheet.png", "run.json"}
    assert_marked(*output.rglob("*.png"))
    sample = read_sample(output / "ip-adapter-max" / "hat.png")
    assert (sample["seed"], sample["prompt"]) == (SEED, "a photo of a person wearing a hat")


def test_the_record_names_photos_by_digest_only(output: Path, person: Person) -> None:
    record = read_record(output / "run.json", command="demo")
    assert record["settings"]["photos"] == [photo.digest for photo in person.photos]
    assert set(record["results"]["seconds_per_image"]) == set(DEMO_METHODS)
    assert "toy" not in (output / "run.json").read_text().replace(record["settings"]["model"], "")


def test_it_runs_again_and_leaves_other_files_alone(output: Path, person: Person, toy_model: LatentDiffusion) -> None:
    (output / "notes.txt").write_text("mine")
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.rglob("*") if path.is_file()}
    demo(person, toy_model, output, SamplingConfig(steps=1))
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in output.rglob("*") if path.is_file()} == before
    assert (output / "notes.txt").read_text() == "mine"


def test_a_demo_that_was_stopped_goes_on(
    output: Path, person: Person, toy_model: LatentDiffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = going_on.save_sample

    def interrupted(sample: Sample, path: Path) -> None:
        if path == tmp_path / "ip-adapter-consensus" / "old.png":
            raise KeyboardInterrupt
        save(sample, path)

    monkeypatch.setattr(going_on, "save_sample", interrupted)
    with pytest.raises(KeyboardInterrupt, match="same command goes on"):
        demo(person, toy_model, tmp_path, SamplingConfig(steps=1))
    monkeypatch.undo()
    before = {path: path.stat().st_ino for path in tmp_path.glob("*/*.png")}
    assert len(before) == 2 * len(PROMPTS) + 1
    with pytest.raises(CheckpointError, match="holds a demo of other photos"):
        demo(replace(person, photos=person.photos[:2]), toy_model, tmp_path, SamplingConfig(steps=1))
    demo(person, toy_model, tmp_path, SamplingConfig(steps=1))
    assert before.items() <= {path: path.stat().st_ino for path in tmp_path.glob("*/*.png")}.items()
    assert images(tmp_path) == images(output)
    assert {path.name for path in tmp_path.iterdir()} == {*DEMO_METHODS, "sheet.png", "run.json"}
    seconds = read_record(tmp_path / "run.json", command="demo")["results"]["seconds_per_image"]
    assert list(seconds) == sorted(DEMO_METHODS)
    assert all(seconds.values())


def test_a_sheet_that_is_missing_is_drawn_from_the_images(
    output: Path, person: Person, toy_model: LatentDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (output / "sheet.png").read_bytes()
    (output / "sheet.png").unlink()
    monkeypatch.setattr(going_on, "generate", lambda *_, **__: pytest.fail("drew again"))
    demo(person, toy_model, output, SamplingConfig(steps=1))
    assert (output / "sheet.png").read_bytes() == before


@pytest.mark.parametrize("name", ["sheet.png", "ip-adapter/old.png", "run.json"])
def test_a_file_of_the_users_is_never_replaced(name: str, person: Person, toy_model: LatentDiffusion, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(path, format="PNG")
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="did not write it"):
        demo(person, toy_model, tmp_path, SamplingConfig(steps=1))
    assert path.read_bytes() == before
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == [path]


def test_the_prompts_are_of_words_that_the_pocket_model_knows(toy_model: LatentDiffusion) -> None:
    assert [prompt_warnings(toy_model, prompt) for prompt in PROMPTS.values()] == [[]] * len(PROMPTS)
