"""The examples run as a user runs them, on the example photos: in a process of their own, in fewer steps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fresh import Fresh
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
ARGUMENTS = {
    "portrait.py": ["anna"],
    "two_people.py": ["anna", "bert"],
    "nobody.py": ["5"],
}  # folders are copies of the photos


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_example_writes_what_it_says(name: str, fresh: Fresh, tmp_path: Path) -> None:
    for folder, photos in (("anna", "0[1-3].png"), ("bert", "0[4-6].png")):
        (tmp_path / folder).mkdir()
        for photo in EXAMPLE_PHOTOS_DIR.glob(photos):
            shutil.copy(photo, tmp_path / folder)
    arguments = [value if value.isdigit() else str(tmp_path / value) for value in ARGUMENTS[name]]
    done = fresh.loaded.script(EXAMPLES / name, *arguments, tmp_path / "out", at=tmp_path, steps=4)
    assert done.code == 0, done.err
    said = [Path(line.split()[0]) for line in done.out.splitlines()]
    assert said
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in said)
