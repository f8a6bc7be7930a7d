"""people.jsonl comes back as it was written, and a damaged line is named."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tenth.core.errors import DataError
from tenth.data.manifest import (
    SHOWN,
    DroppedPhoto,
    ManifestEntry,
    read_manifest,
    write_manifest,
    writing_manifest,
)

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


def test_the_summary_counts_people_and_photos_and_the_report_names_what_was_dropped(tmp_path: Path) -> None:
    dropped = [DroppedPhoto(f"Bo/{number}.jpg", "Bo", "copy", "the same", "Bo/0.jpg") for number in range(SHOWN + 2)]
    with writing_manifest(tmp_path) as writer:
        for row in (ANNA, replace(ANNA, file="Anna/Anna_0002.jpg"), BO):
            writer.add(row)
        for photo in dropped:
            writer.drop(photo)
        counted = writer.finish(["a note"])
    assert (counted.people["train"], counted.photos["train"], counted.photos["reserved"]) == (1, 2, 1)
    assert str(counted).splitlines()[0] == "train           1 people       2 photos"
    assert str(counted).splitlines()[4] == "dropped Bo/0.jpg: the same"
    assert str(counted).splitlines()[-1] == "and 2 more: report.json names all"
    assert counted.notes == ("a note",)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report == {
        "dropped": [asdict(photo) for photo in dropped],
        "notes": ["a note"],
        "num_dropped": {"copy": SHOWN + 2},
        "people": {"train": 1, "validation": 0, "test": 0, "reserved": 1},
        "photos": {"train": 2, "validation": 0, "test": 0, "reserved": 1},
    }


def test_a_report_of_nothing_is_json_and_neither_file_is_replaced_by_half_a_run(tmp_path: Path) -> None:
    with writing_manifest(tmp_path) as writer:
        writer.add(ANNA)
        writer.finish([])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert json.loads(before["report.json"])["dropped"] == []
    half = writing_manifest(tmp_path)
    half.__enter__().add(BO)
    assert not half.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
