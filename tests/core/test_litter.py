"""What systems leave in folders is in nobody's way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.files.claims import list_entries
from tenth.core.files.reading import SYSTEM_FILES, is_system_file, without_system_files
from tenth.data.image_folder import prepare_folder
from tenth.data.photo_folder import inspect_folder
from tenth.evaluation.image_set import list_images
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import load_model


def strew(folder: Path) -> Path:
    """Every kind of litter, in a folder and in those in it."""
    for each in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in SYSTEM_FILES:
            if name.startswith("__") or name == ".ipynb_checkpoints":
                (each / name).mkdir()
                (each / name / "part.pyc").write_bytes(b"x")
                shutil.copy(EXAMPLE_PHOTOS_DIR / "01.png", each / name)
            else:
                (each / name).write_bytes(b"x" * 100)
    for path in [path for path in folder.rglob("*") if path.is_file() and not is_system_file(path.relative_to(folder))]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7" + b"x" * 100)  # as macOS keeps beside each
    return folder


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for person, colour in {"anna": 60, "bert": 190}.items():
        (tmp_path / "people" / person).mkdir(parents=True)
        for number in range(2):
            noise = np.random.default_rng(colour + number).integers(0, 60, (64, 64, 3), np.uint8)
            Image.fromarray(noise + colour).save(tmp_path / "people" / person / f"{number}.png")
    return tmp_path / "people"


def test_what_is_litter() -> None:
    assert all(map(is_system_file, [*SYSTEM_FILES, "a/__pycache__/b.py", "._a.png", Path("models") / ".DS_Store"]))
    assert not any(map(is_system_file, ["a.png", ".hidden", "pycache", "me", "unet/model.safetensors"]))


def test_a_model_is_the_same_model(toy_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_folder, tmp_path / "model")
    clean = load_model(tmp_path / "model")
    littered = load_model(strew(tmp_path / "model"))
    assert (littered.name, littered.adapter_name) == (clean.name, clean.adapter_name)
    assert littered.trained_methods == clean.trained_methods


def test_a_model_of_stable_diffusion_is_the_same_model(sd15_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(sd15_folder, tmp_path / "model")
    clean = load_model(tmp_path / "model").name
    assert load_model(strew(tmp_path / "model")).name == clean


def test_people_are_the_same_people(people: Path, tmp_path: Path) -> None:
    clean = prepare_folder(people, tmp_path / "clean")
    littered = prepare_folder(strew(people), tmp_path / "littered")
    assert (littered.people, littered.photos, littered.dropped, littered.notes) == (
        clean.people,
        clean.photos,
        clean.dropped,
        clean.notes,
    )


def test_photos_and_images_are_the_same(people: Path) -> None:
    def seen() -> tuple[list[str], int, tuple[str, ...]]:
        verdicts, images = inspect_folder(people / "anna"), list_images(people)
        return [verdict.file for verdict in verdicts], len(images), images.ignored

    clean = seen()
    strew(people)
    assert seen() == clean


def test_a_folder_with_litter_alone_is_empty(tmp_path: Path) -> None:
    """So that a run may be begun in a folder that was looked at."""
    assert list_entries(strew(tmp_path)) == set()
    (tmp_path / "letter.txt").write_text("dear")
    assert list_entries(tmp_path) == {"letter.txt"}
    assert without_system_files(tmp_path, tmp_path.iterdir()) == [tmp_path / "letter.txt"]
