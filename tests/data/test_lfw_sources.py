"""Where LFW and its attribute table come from: pages that help, and a table that is kept to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.core.files.reading import sha256_of
from tenth.data.captions.attributes import COLUMNS
from tenth.data.lfw import people_folder, prepare_lfw
from tenth.data.manifest import read_manifest
from toy_lfw import layout


def table(path: Path, smiling: str) -> Path:
    cells = {"image": "Ten_Test/Ten_Test_0001.jpg", "gender": "F", "smiling": smiling}
    path.write_text(f"{','.join(COLUMNS)}\n{','.join(cells.get(column, '') for column in COLUMNS)}\n")
    return path


def test_the_first_table_is_shown_and_kept_and_another_one_refused(tmp_path: Path) -> None:
    source, one, other = (
        layout(tmp_path / "lfw", {"Ten_Test": 2}),
        table(tmp_path / "a.csv", "1"),
        table(tmp_path / "b.csv", "0"),
    )
    prepare_lfw(source, tmp_path / "out")  # without a table there is nothing to keep to
    assert "sources" not in json.loads((tmp_path / "out/report.json").read_text())
    digest = sha256_of(one)
    [note, *_] = prepare_lfw(source, tmp_path / "out", one).notes
    assert note == f"attribute table, sha256 {digest}: kept in report.json, and compared from now on"
    assert json.loads((tmp_path / "out/report.json").read_text())["sources"] == {"attribute table": digest}
    before = (tmp_path / "out/people.jsonl").read_bytes()
    with pytest.raises(DataError, match=rf"b.csv has the sha256 .* was made with {digest}\. .*docs/data.md"):
        prepare_lfw(source, tmp_path / "out", other)
    assert (tmp_path / "out/people.jsonl").read_bytes() == before
    prepare_lfw(source, tmp_path / "out", one)
    assert (tmp_path / "out/people.jsonl").read_bytes() == before
    prepare_lfw(source, tmp_path / "elsewhere", other)
    assert "smiling" not in read_manifest(tmp_path / "elsewhere/people.jsonl")[0].caption
    assert "smiling" in read_manifest(tmp_path / "out/people.jsonl")[0].caption


def test_a_damaged_report_keeps_to_nothing(tmp_path: Path) -> None:
    source = layout(tmp_path / "lfw", {"Ten_Test": 1})
    (tmp_path / "out").mkdir()
    for text in ("[]", '{"sources": 3}', "{"):
        (tmp_path / "out/report.json").write_text(text)
        prepare_lfw(source, tmp_path / "out", table(tmp_path / "a.csv", "1"))
        assert json.loads((tmp_path / "out/report.json").read_text())["sources"]


def test_the_folder_of_the_people_may_have_one_folder_around_it(tmp_path: Path) -> None:
    inner = layout(tmp_path / "download/lfw-deepfunneled", {"Ten_Test": 1, "One": 1})
    (tmp_path / "download/readme.txt").touch()
    assert people_folder(tmp_path / "download") == people_folder(inner) == inner
    alone = layout(tmp_path / "alone", {"One": 1})
    assert people_folder(alone) == alone  # one person's folder is no folder around people
    assert people_folder(tmp_path / "nowhere") == tmp_path / "nowhere"


def test_what_is_not_lfw_names_the_page_that_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "lfw.tgz").write_bytes(b"x")
    for name in ("nowhere", "empty", "lfw.tgz"):
        with pytest.raises(DataError, match=r"docs/data\.md says where it is published"):
            prepare_lfw(tmp_path / name, tmp_path / "out")
