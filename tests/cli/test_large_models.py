"""The line that says what a large model would bring: once, after pocket's images alone, and to nobody who has one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tenth.cli.large_models import suggest_large_model, suggestion
from tenth.models.hub.lockfile import LOCK_FILE

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path / "models"))
    return tmp_path


def after_images_of(name: str, output: Output) -> str:
    model: Any = SimpleNamespace(name=name)
    suggest_large_model(model)
    said = output.readouterr()
    assert said.out == ""
    return said.err


def test_it_is_said_once(capsys: Output) -> None:
    assert after_images_of("pocket@1", capsys) == f"{suggestion()}\n"
    assert after_images_of("pocket@1", capsys) == ""


def test_it_has_what_one_wants_to_know() -> None:
    for text in (
        "128 x 128",
        "`tenth models download sdxl`",
        "1024 x 1024",
        "9 GB",
        "openrail++",
        "apache-2.0",
        "`tenth doctor`",
    ):
        assert text in suggestion()


def test_it_is_not_said_after_images_of_another_model(capsys: Output) -> None:
    assert after_images_of("toy@1", capsys) == ""
    assert after_images_of("pocket@1", capsys) != ""


@pytest.mark.parametrize("content", ["damaged", '{"format": 1}'])
def test_a_lock_that_cannot_be_read_is_no_fault_of_the_images(content: str, folders: Path, capsys: Output) -> None:
    (folders / "models").mkdir()
    (folders / "models" / LOCK_FILE).write_text(content)
    assert after_images_of("pocket@1", capsys) == ""


def test_who_has_a_large_model_hears_nothing(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("tenth.models.hub.lockfile.read_lock", lambda _: {"sd15": None})
    assert after_images_of("pocket@1", capsys) == ""


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_images(folders: Path, capsys: Output) -> None:
    (folders / "cache").write_text("a file")
    assert after_images_of("pocket@1", capsys) == ""
