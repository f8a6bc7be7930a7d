"""A run that draws pictures and is stopped: it goes on where it was, replaces nothing and ends with the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tenth.core.errors import CheckpointError, RecipeError
from tenth.core.files.claims import exclusive_folder
from tenth.core.run_record import PROGRESS_FILE
from tenth.core.types import Sample
from tenth.experiments.generation import resumable_images as going_on
from tenth.experiments.generation.run import ImageRun, generate_into
from tenth.sampling.config import SamplingConfig
from tenth.sampling.generate import Request, generate
from tenth.sampling.passes.hires import HiresConfig
from toy_drawing import PROMPT, random_identity

ONE = SamplingConfig(steps=1)
NOT_OF_THE_RUN = {"written", "seconds_per_image"}  # the only entries of run.json that are not the same each time


def requests(model: Any, count: int = 6, seed: int = 0) -> list[Request]:
    person = random_identity(model)
    return [Request(person, PROMPT, seed + number) for number in range(count)]


def pictures(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and inode of each."""
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.glob("*.png")}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in pictures(folder).items()}


def said(folder: Path) -> Any:
    record = json.loads((folder / "run.json").read_text())
    flat = record | record.pop("results")
    return {key: value for key, value in flat.items() if key not in NOT_OF_THE_RUN}


@pytest.fixture
def stopped(toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of six pictures of which five were drawn, and the sixth was interrupted."""
    save = going_on.save_sample

    def interrupted(sample: Sample, path: Path) -> None:
        if path.name == "0005.png":
            raise KeyboardInterrupt
        save(sample, path)

    monkeypatch.setattr(going_on, "save_sample", interrupted)
    with pytest.raises(KeyboardInterrupt, match="same command goes on where this one stopped"):
        generate_into(tmp_path / "out", ImageRun(toy_model, requests(toy_model), ONE))
    monkeypatch.undo()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {PROGRESS_FILE, *(f"000{number}.png" for number in range(5))}
    return tmp_path / "out"


@pytest.mark.slow
def test_it_goes_on_replaces_nothing_and_ends_with_the_same_bytes(
    stopped: Path, toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pictures(stopped)
    (stopped / ".0005.png.0123456789abcdef.part").write_bytes(b"half")
    drawn: list[int] = []

    def counted(model: Any, group: list[Request], *given: Any, **more: Any) -> Iterator[Sample]:
        drawn.extend(request.seed for request in group)
        yield from generate(model, group, *given, **more)

    monkeypatch.setattr(going_on, "generate", counted)
    told: list[tuple[int, int]] = []
    paths = generate_into(
        stopped, ImageRun(toy_model, requests(toy_model), ONE), lambda now: told.append((now.done, now.total))
    )
    assert [path.name for path in paths] == [f"000{number}.png" for number in range(6)]
    assert drawn == [4, 5]  # the batch that had a gap
    assert told[-1] == (2, 2)
    assert before.items() <= pictures(stopped).items()
    generate_into(tmp_path / "undisturbed", ImageRun(toy_model, requests(toy_model), ONE))
    assert contents(stopped) == contents(tmp_path / "undisturbed")
    assert said(stopped) == said(tmp_path / "undisturbed")
    assert {path.name for path in stopped.iterdir()} == {"run.json", *contents(stopped)}
    assert json.loads((stopped / "run.json").read_text())["results"]["seconds_per_image"] > 0


def test_a_run_that_is_done_is_left_as_it_is(toy_model: Any, tmp_path: Path) -> None:
    generate_into(tmp_path, ImageRun(toy_model, requests(toy_model, 2), ONE))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.iterdir())}
    generate_into(tmp_path, ImageRun(toy_model, requests(toy_model, 2), ONE))
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path, *tmp_path.iterdir())} == before
    kept = contents(tmp_path)
    record = (tmp_path / "run.json").read_bytes()
    (tmp_path / "0001.png").unlink()
    (tmp_path / PROGRESS_FILE).write_text('{"kind": "generate", "settings": 3, "seconds": 4}')
    generate_into(tmp_path, ImageRun(toy_model, requests(toy_model, 2), ONE))
    assert (contents(tmp_path), (tmp_path / "run.json").read_bytes()) == (kept, record)
    assert not (tmp_path / PROGRESS_FILE).exists()


def test_another_run_is_refused_while_this_one_is_not_done(stopped: Path, toy_model: Any) -> None:
    before = pictures(stopped)
    for others, sampling in ((requests(toy_model, seed=1), ONE), (requests(toy_model), SamplingConfig(steps=2))):
        with pytest.raises(CheckpointError, match=r"holds the images of another run; an empty or new folder is needed"):
            generate_into(stopped, ImageRun(toy_model, others, sampling))
    (stopped / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"notes.txt, which is not of a run"):
        generate_into(stopped, ImageRun(toy_model, requests(toy_model), ONE))
    (stopped / "notes.txt").unlink()
    (stopped / PROGRESS_FILE).unlink()
    with pytest.raises(CheckpointError, match="holds 5 files"):
        generate_into(stopped, ImageRun(toy_model, requests(toy_model), ONE))
    assert pictures(stopped) == before


def test_what_was_begun_and_drew_nothing_stands_in_nobodys_way(toy_model: Any, tmp_path: Path) -> None:
    (tmp_path / PROGRESS_FILE).write_text('{"kind": "generate", "settings": {"seeds": [1]}, "seconds": {}}')
    generate_into(tmp_path, ImageRun(toy_model, requests(toy_model, 1), ONE))
    assert {path.name for path in tmp_path.iterdir()} == {"0000.png", "run.json", "sheet.png"}


@pytest.mark.parametrize("damage", ["edited", "cut", "text", "folder", "link"])
def test_what_is_no_image_of_the_run_is_not_replaced(damage: str, stopped: Path, toy_model: Any) -> None:
    path = stopped / "0001.png"
    if damage == "edited":
        Image.open(path).save(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-5000])
    else:
        path.unlink()
        {"text": path.touch, "folder": path.mkdir, "link": lambda: path.symlink_to("nowhere")}[damage]()
    before = path.lstat().st_ino
    with pytest.raises(CheckpointError, match=r"0001.png is not the complete image that would be generated there.*Remove it"):
        generate_into(stopped, ImageRun(toy_model, requests(toy_model), ONE))
    assert path.lstat().st_ino == before
    assert not (stopped / "0005.png").exists()


def test_of_another_size_too(toy_model: Any, tmp_path: Path) -> None:
    large = HiresConfig(256, 192)
    generate_into(tmp_path / "one", ImageRun(toy_model, requests(toy_model, 2), ONE, hires=large))
    generate_into(tmp_path / "two", ImageRun(toy_model, requests(toy_model, 2), ONE, hires=large))
    (tmp_path / "two/run.json").rename(tmp_path / "two" / PROGRESS_FILE)  # as if killed before it was written
    (tmp_path / "two/0001.png").unlink()
    generate_into(tmp_path / "two", ImageRun(toy_model, requests(toy_model, 2), ONE, hires=large))
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert said(tmp_path / "two") == said(tmp_path / "one")


def test_two_at_once(toy_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenth.core.files.claims.os.getpid", count().__next__)  # each time as if from another process
    with exclusive_folder(tmp_path / "out"), pytest.raises(CheckpointError, match=r"another run is writing to .*out"):
        generate_into(tmp_path / "out", ImageRun(toy_model, requests(toy_model, 1), ONE))
    assert not (tmp_path / "out").exists()


def test_a_seed_out_of_range_is_refused_before_anything_is_written(toy_model: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="seed is 9223372036854775808"):
        generate_into(tmp_path, ImageRun(toy_model, requests(toy_model, 2, seed=2**63 - 1), ONE))
    assert list(tmp_path.iterdir()) == []
