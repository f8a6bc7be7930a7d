"""What a command says reaches terminals that cannot show it, pipes that are closed and disks that are full, without a fault."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tenth.cli.main import main

TENTH = (sys.executable, "-m", "tenth.cli.main")


@pytest.fixture
def folder(face_photos: list[Path], tmp_path: Path) -> Path:
    """Photos whose names few terminals can show."""
    folder = tmp_path / "photos \N{RIGHTWARDS ARROW}"
    folder.mkdir()
    shutil.copyfile(face_photos[0], folder / "\N{SNOWMAN}\N{LATIN SMALL LETTER E WITH ACUTE}.png")
    shutil.copyfile(face_photos[1], os.fsencode(folder) + b"/\xff.png")
    return folder


def told(*command: str, encoding: str, closing: str = "") -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    line = f'"$@" {closing}'
    return subprocess.run(["sh", "-c", line, "sh", *TENTH, *command], capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict"])
def test_what_a_terminal_cannot_show_is_written_as_a_number(folder: Path, encoding: str) -> None:
    done = told("photos", str(folder), encoding=encoding)
    assert done.returncode == 0, done.stderr
    shown = {"ascii": b"\\u2603\\xe9.png", "latin-1:strict": b"\\u2603\xe9.png"}
    assert shown[encoding] in done.stdout


@pytest.mark.parametrize(("closing", "code"), [(">&- 2>&-", 0), (">/dev/full", 1)])
def test_a_stream_that_takes_nothing_is_no_fault_of_ours(closing: str, code: int) -> None:
    done = told("people", "--json", encoding="utf-8", closing=closing)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr
    assert done.stderr.count(b"\n") == code


def test_a_closed_stdout_is_not_the_next_file_that_is_opened(folder: Path, tmp_path: Path) -> None:
    """The lowest number that is free becomes the next file's: a library that prints would print into it."""
    line = (
        "import os, sys; from tenth.core import console; console.allow_any_text(); print(open(sys.argv[1], 'w').fileno() > 2)"
    )
    script = [
        sys.executable,
        "-c",
        f"{line}; os._exit(0 if open(sys.argv[1], 'w').fileno() > 2 else 1)",
        str(tmp_path / "file"),
    ]
    assert subprocess.run(["sh", "-c", '"$@" >&- 2>&-', "sh", *script], check=False).returncode == 0


@pytest.mark.parametrize(("option", "name"), [("--prompt", "prompt"), ("--negative-prompt", "negative_prompt")])
def test_a_prompt_that_is_not_utf_8_is_refused_before_anything_is_drawn(
    option: str, name: str, face_photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [
        "generate",
        str(face_photos[0].parent),
        "--prompt",
        "a man",
        option,
        os.fsdecode(b"a m\xe4n"),
        "-o",
        str(tmp_path / "o"),
    ]
    given = given if option == "--negative-prompt" else [*given[:2], *given[4:]]
    assert main(given) == 1
    said = capsys.readouterr().err
    assert f"{name} is 'a m\\udce4n'; a text of at most 20,000 characters, in UTF-8, is needed" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "o").exists()
