"""run.json: whole or not at all, the same layout each time, nothing that JSON cannot say."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.core.run_record import read_record, write_record


@dataclass(frozen=True)
class Settings:
    steps: int
    recipe: Path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "run.json"
    write_record(path, command="generate", settings={"a": Settings(2, Path("x") / "y"), "b": (1, 2)}, results={"score": 0.5})
    record = read_record(path, command="generate")
    assert record["settings"] == {"a": {"steps": 2, "recipe": "x/y"}, "b": [1, 2]}
    assert record["results"] == {"score": 0.5}
    assert {"python", "libraries", "platform", "cores"} == set(record["environment"])
    assert list(record) == sorted(record)


@pytest.mark.parametrize(("wrong", "error"), [(math.nan, ValueError), (math.inf, ValueError), (object(), TypeError)])
def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, wrong: object, error: type[Exception]) -> None:
    path = tmp_path / "run.json"
    write_record(path, command="generate", settings={}, results={})
    before = path.read_bytes()
    with pytest.raises(error):
        write_record(path, command="generate", settings={}, results={"score": wrong})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"kind": "demo", "settings": {}}), "\xff"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(DataError):
        read_record(path, command="generate")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_record(tmp_path / "run.json", command="generate")
