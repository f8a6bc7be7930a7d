"""Commands refuse at once to write where something is, and what is there stays."""

from __future__ import annotations

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from PIL import Image

from tenth.cli.main import main
from tenth.core.files.claims import exclusive_folder
from tenth.core.types import Identity
from tenth.data import lfw
from tenth.methods.identity_file import save_identity
from toy_training import toy_recipe

Output = pytest.CaptureFixture[str]
SOON = """
import sys
from tenth.cli.main import main
code = main(sys.argv[1:])
print(code, sorted({"torch", "diffusers", "PIL", "numpy"} & sys.modules.keys()))
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return toy_recipe(tmp_path / "toy.toml", monkeypatch)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each claim is as if from another process."""
    monkeypatch.setattr("tenth.core.files.claims.os.getpid", count().__next__)


@pytest.mark.parametrize(
    "command",
    [
        ["train", "toy.toml"],
        ["train", "toy.toml", "--resume"],
        ["generate", "me.safetensors", "--prompt", "a"],
    ],
    ids=lambda command: " ".join(command[::2]),
)
def test_before_anything_heavy_is_imported(command: list[str], recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").touch()
    done = subprocess.run(
        [sys.executable, "-c", SOON, *command, "-o", "used"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "1 []\n", done.stderr
    assert done.stderr.count("\n") == 1
    assert "tenth: used " in done.stderr


@pytest.mark.parametrize("below", ["", "/new", "/new/inner"])
@pytest.mark.parametrize("command", [["demo"], ["generate", "me", "--prompt", "a"]], ids=lambda command: command[0])
def test_a_folder_where_a_file_is_is_refused_before_anything_else_is_said(
    command: list[str], below: str, tmp_path: Path, capsys: Output
) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text("mine")
    assert main([*command, "-o", f"{letter}{below}"]) == 1
    said = capsys.readouterr().err
    assert said == f"tenth: {letter} is a file; a folder is needed. Choose another -o.\n"
    assert letter.read_text() == "mine"


def test_a_training_that_goes_on_leaves_its_recipe_alone(recipe: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert main(["train", str(recipe), "-o", str(output)]) == 130
    before = (output / "recipe.toml").stat()
    text = recipe.read_text()
    recipe.write_text(f"# the same\n{text}")
    assert main(["train", str(recipe), "-o", str(output), "--resume"]) == 0
    assert (output / "recipe.toml").read_text() == text
    after = (output / "recipe.toml").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_full_disk_when_training_begins_leaves_nothing_and_names_the_path(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tenth.core.files.writing.os.fsync", full)
        assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 1
    assert f"{tmp_path / 'run' / 'recipe.toml'} cannot be written (No space left on device)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 130


@pytest.mark.usefixtures("others")
def test_two_trainings_at_once(recipe: Path, tmp_path: Path, capsys: Output) -> None:
    with exclusive_folder(tmp_path / "run"):
        assert main(["train", str(recipe), "-o", str(tmp_path / "run")]) == 1
        assert list((tmp_path / "run").iterdir()) == []
    assert "another run is writing to" in capsys.readouterr().err


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize("kind", ["lfw", "image-folder"])
def test_two_at_once_who_prepare_data(kind: str, tmp_path: Path, capsys: Output) -> None:
    photo = tmp_path / "source/Ann_Nobody/Ann_Nobody_0001.jpg"
    photo.parent.mkdir(parents=True)
    Image.effect_noise((250, 250), 80).convert("RGB").save(photo)
    command = ["data", kind, str(tmp_path / "source"), "-o", str(tmp_path / "out")]
    with exclusive_folder(tmp_path / "out"):
        assert main(command) == 1
        assert "another run is writing to" in capsys.readouterr().err
        assert list((tmp_path / "out").iterdir()) == []
    assert main(command) == 0


def test_photos_of_an_archive_that_are_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = tmp_path / "lfw/Ann_Nobody/Ann_Nobody_0001.jpg"
    photo.parent.mkdir(parents=True)
    Image.effect_noise((250, 250), 80).convert("RGB").save(photo)
    subprocess.run(["tar", "-czf", str(tmp_path / "lfw.tgz"), "-C", str(tmp_path), "lfw"], check=True)
    monkeypatch.setattr(lfw, "_check_archive", lambda _: None)
    written = tmp_path / "out/photos/Ann_Nobody/Ann_Nobody_0001.jpg"
    inodes = []
    for _ in range(2):
        lfw.prepare_lfw(tmp_path / "lfw.tgz", tmp_path / "out")
        inodes.append(written.stat().st_ino)
        left = written.with_name(".Ann_Nobody_0002.jpg.0123456789abcdef.part")
        left.touch()
    assert inodes[0] == inodes[1]
    lfw.prepare_lfw(tmp_path / "lfw.tgz", tmp_path / "out")
    assert not left.exists()


def test_an_identity_is_never_replaced(face_photos: list[Path], toy_folder: Path, tmp_path: Path, capsys: Output) -> None:
    photos, file = tmp_path / "photos", tmp_path / "me.safetensors"
    photos.mkdir()
    for photo in face_photos[:2]:
        (photos / photo.name).write_bytes(photo.read_bytes())
    command = ["identity", str(photos), "--model", str(toy_folder), "-o", str(file)]
    left = tmp_path / ".me.safetensors.0123456789abcdef.part"
    left.touch()
    assert main(command) == 0
    before = file.stat()
    assert not left.exists()
    assert main(command) == 0  # the very same
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    from tenth.methods.identity_file import load_identity

    mine = load_identity(file)
    assert mine.embeddings is not None
    other = Identity(mine.method, mine.model, mine.encoder, mine.adapter, mine.embeddings + 1, photos=mine.photos)
    save_identity(other, file)  # of the same photos, and not the same: made by an earlier version, say
    capsys.readouterr()
    assert main(command) == 1
    assert "exists and is not what would be written; a new path is needed, so that nothing is lost" in capsys.readouterr().err
    found = load_identity(file).embeddings
    assert found is not None
    assert torch.equal(found, mine.embeddings + 1)
    (photos / face_photos[2].name).write_bytes(face_photos[2].read_bytes())
    assert main(command) == 1
    assert "is an identity of another method, model or other photos" in capsys.readouterr().err
