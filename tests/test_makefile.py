"""`make benchmark`: its commands as the program reads them, without running them, and what it says without LFW."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from parsed_commands import parse

ROOT = Path(__file__).resolve().parents[1]
# What must not be inherited.
CALLERS = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "LFW", "RECOGNIZER", "ATTRIBUTES", "MAX_PEOPLE", "RECIPE")


def make(*words: str) -> subprocess.CompletedProcess[str]:
    surroundings = {name: value for name, value in os.environ.items() if name not in CALLERS}
    return subprocess.run(["make", *words], cwd=ROOT, capture_output=True, text=True, check=False, env=surroundings)


def commands(*words: str) -> list[tuple[str, dict[str, Any]]]:
    """The lines of tenth's that make would run, parsed."""
    run = make("-n", "benchmark", *words)
    assert run.returncode == 0, run.stderr
    text = run.stdout.replace("\\\n", " ").replace("$LFW", "LFW").replace('"$@"', "--photos PHOTOS")
    text = text.replace('${ATTRIBUTES:+--attributes "$ATTRIBUTES"}', "--attributes ATTRIBUTES")
    lines = [part for line in text.splitlines() for part in line.split("; ") if "/tenth " in part]
    return [parse(shlex.split(line.partition(" >")[0])[1:]) for line in lines]


def test_the_three_commands_are_the_programs() -> None:
    prepared, measured, reported = commands("LFW=a b.tgz", "RECOGNIZER=one.toml two.toml")
    assert prepared[0] == "tenth data lfw"
    assert prepared[1]["output"] == Path("data/lfw")  # where the recipe reads it
    assert measured[0] == "tenth experiment"
    assert measured[1]["recipe"] == Path("recipes/quick-test.toml")
    assert measured[1]["recognizer"] == [Path("one.toml"), Path("two.toml"), Path("dlib")]
    assert measured[1]["max_people"] is None
    assert reported[0] == "tenth report"
    assert reported[1]["summary"]
    assert reported[1]["record"] == measured[1]["output"] == Path("runs/quick-test")


def test_a_try_has_a_folder_of_its_own_and_dlib_measures_alone_without_a_recognizer() -> None:
    _, measured, reported = commands("LFW=lfw", "MAX_PEOPLE=3", "RECIPE=recipes/curve-test.toml")
    assert measured[1]["recognizer"] == [Path("dlib")]
    assert measured[1]["max_people"] == 3
    assert measured[1]["recipe"] == Path("recipes/curve-test.toml")
    assert measured[1]["output"] == reported[1]["record"] == Path("runs/curve-test-first-3")


def test_what_it_installs_is_what_it_needs() -> None:
    run = make("-n", "-B", "benchmark", "LFW=x")
    assert "-e '.[fast,recognizer,report]'" in run.stdout


@pytest.mark.parametrize("words", [(), ("LFW=",)])
def test_without_lfw_nothing_is_installed_and_the_pages_are_named(words: tuple[str, ...]) -> None:
    run = make("benchmark", *words)
    assert run.returncode != 0
    assert "LFW is not given" in run.stderr
    assert "docs/data.md" in run.stderr
    assert "docs/recognizers.md" in run.stderr
    assert "Installing" not in run.stderr
