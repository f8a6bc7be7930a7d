"""people.jsonl comes back as it was written, and a damaged line is named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import DataError
from tenth.data.manifest import ManifestEntry, read_manifest, summarize, write_manifest

ANNA = ManifestEntry(
    "Anna/Anna_0001.jpg", "Anna", "train", 1, "a photo of a woman", ("a photo of a woman", "a portrait"), "0" * 64
)
BO = replace(ANNA, file="Bo/Bo_0001.jpg", person="Bo", split="reserved", fold=0)


def test_rows_come_back(tmp_path: Path) -> None:
    write_manifest(tmp_path / "new/people.jsonl", [ANNA, BO])
    assert read_manifest(tmp_path / "new/people.jsonl") == [ANNA, BO]
    assert len((tmp_path / "new/people.jsonl").read_text().splitlines()) == 2


def test_names_of_any_script_come_back(tmp_path: Path) -> None:
    row = replace(ANNA, person="Zoë\u2028Ω", file="Zoë\u2028Ω/1.jpg")
    write_manifest(tmp_path / "people.jsonl", [row])
    assert read_manifest(tmp_path / "people.jsonl") == [row]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    def rows() -> Any:
        yield BO
        raise KeyboardInterrupt

    write_manifest(tmp_path / "people.jsonl", [ANNA])
    with pytest.raises(KeyboardInterrupt):
        write_manifest(tmp_path / "people.jsonl", rows())
    assert read_manifest(tmp_path / "people.jsonl") == [ANNA]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "held-out"}, 'split is "held-out"'),
        ({"fold": 3}, "fold is 3"),
        ({"fold": True}, "fold is true"),
        ({"captions": []}, r"captions is \[\]"),
        ({"captions": ["a", 1]}, "captions is"),
        ({"caption": ""}, 'caption is ""'),
        ({"digest": "0"}, 'digest is "0"'),
        ({"person": None}, "person is null"),
        ({"file": "../../etc/passwd"}, "file is"),
        ({"file": "/etc/passwd"}, "file is"),
        ({"file": ANNA.file}, "Anna/Anna_0001.jpg stands a second time"),
        ({"person": "Anna"}, "Anna is in train and in reserved"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    lines = [json.dumps(asdict(ANNA)), json.dumps(asdict(BO) | change)]
    (tmp_path / "people.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(DataError, match=f"people.jsonl, line 2: {message}"):
        read_manifest(tmp_path / "people.jsonl")


@pytest.mark.parametrize("line", ["", "{", "[1]", '"a"', "{}"])
def test_what_is_no_row_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "people.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: .*; each line is one photo with file, person, split"):
        read_manifest(tmp_path / "people.jsonl")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist; the rows of a data set are needed"):
        read_manifest(tmp_path / "people.jsonl")


def test_the_summary_counts_people_and_photos() -> None:
    counted = summarize([ANNA, replace(ANNA, file="Anna/Anna_0002.jpg"), BO], {"x.jpg": "damaged"}, ["a note"])
    assert (counted.people["train"], counted.photos["train"], counted.photos["reserved"]) == (1, 2, 1)
    assert str(counted).splitlines()[0] == "train           1 people       2 photos"
    assert str(counted).splitlines()[-1] == "dropped x.jpg: damaged"
    assert counted.notes == ("a note",)
