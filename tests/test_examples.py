"""The examples run as a user runs them: as a second process, on the example photos."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

EXAMPLES = Path(__file__).parents[1] / "examples"
ARGUMENTS = {
    "portrait.py": ["anna"],
    "two_people.py": ["anna", "bert"],
    "nobody.py": ["5"],
}  # folders are copies of the photos


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_example_writes_what_it_says(name: str, tmp_path: Path) -> None:
    for folder in ("anna", "bert"):
        shutil.copytree(EXAMPLE_PHOTOS_DIR, tmp_path / folder)
    arguments = [value if value.isdigit() else str(tmp_path / value) for value in ARGUMENTS[name]]
    command = [sys.executable, str(EXAMPLES / name), *arguments, str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [Path(line.split()[0]) for line in done.stdout.splitlines()]
    assert said
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in said)
