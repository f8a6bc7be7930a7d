"""LFW's layout, whole or in part, as folder or archive -> the same people.jsonl. Toy people, drawn pixels."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.data import lfw
from tenth.data.captions.attributes import COLUMNS
from tenth.data.lfw import ERRATA, full_photo_counts, prepare_lfw, read_lfw
from tenth.data.manifest import read_manifest
from toy_lfw import jpeg, layout

SIZES = {"Ten_Test": 12, "Tony_Blair": 11, "George_W_Bush": 10, "Eight": 8, "Nine": 9, "Seven": 7, "One": 1}


def archived(path: Path, members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return path


def trust(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(lfw, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest())
    return archive


def table(path: Path, sizes: Mapping[str, int]) -> Path:
    files = [f"{name}/{name}_{number:04d}.jpg" for name, size in sizes.items() for number in range(1, size + 1)]
    rows = [f"{file},M,1" + "," * (len(COLUMNS) - 3) for file in files]
    path.write_text("\n".join([",".join(COLUMNS), *rows]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return layout(tmp_path_factory.mktemp("lfw"), SIZES)


def test_rows_are_in_order_with_split_fold_and_digest(whole: Path, tmp_path: Path) -> None:
    summary = prepare_lfw(whole, tmp_path)
    rows = read_manifest(tmp_path / "people.jsonl")
    assert [row.file for row in rows] == sorted(row.file for row in rows)
    assert {row.person: row.split for row in rows} == {
        "Eight": "reserved", "George_W_Bush": "test", "Nine": "reserved", "One": "train", "Seven": "train",
        "Ten_Test": "train", "Tony_Blair": "train",
    }  # fmt: skip
    assert {row.fold for row in rows if row.person == "George_W_Bush"} == {0}
    assert rows[0].digest == hashlib.sha256(jpeg("Eight", 1)).hexdigest()
    assert dict(summary.photos) == {"train": 31, "validation": 0, "test": 10, "reserved": 17}
    assert dict(summary.people) == {"train": 4, "validation": 0, "test": 1, "reserved": 2}
    assert "test            1 people      10 photos" in str(summary)


def test_another_fold_is_for_testing_and_that_is_said(whole: Path, tmp_path: Path) -> None:
    summary = prepare_lfw(whole, tmp_path, fold=1)
    rows = read_manifest(tmp_path / "people.jsonl")
    ten = {row.person: (row.split, row.fold) for row in rows if row.person in ("George_W_Bush", "Ten_Test")}
    assert ten["George_W_Bush"][1] == 0
    assert ten["George_W_Bush"][0] in ("train", "validation")
    assert all((split == "test") == (fold == 1) for split, fold in ten.values())
    assert any("the package's own was trained on these people" in note for note in summary.notes)


def test_the_same_source_gives_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    attributes = table(tmp_path / "a.csv", SIZES)
    for name in ("one", "two", "two"):
        prepare_lfw(whole, tmp_path / name, attributes)
    assert (tmp_path / "one/people.jsonl").read_bytes() == (tmp_path / "two/people.jsonl").read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["people.jsonl", "report.json"]


def test_a_part_agrees_with_the_whole(whole: Path, tmp_path: Path) -> None:
    attributes = table(tmp_path / "a.csv", SIZES)
    part = layout(tmp_path / "part", dict.fromkeys(SIZES, 1))
    prepare_lfw(whole, tmp_path / "whole", attributes)
    prepare_lfw(part, tmp_path / "of-part", attributes)
    rows = {row.file: row for row in read_manifest(tmp_path / "whole/people.jsonl")}
    assert all(rows[row.file] == row for row in read_manifest(tmp_path / "of-part/people.jsonl"))


def test_without_attributes_the_highest_number_counts(tmp_path: Path) -> None:
    layout(tmp_path, {"Tony_Blair": 10})
    for number in range(1, 10):
        (tmp_path / f"Tony_Blair/Tony_Blair_{number:04d}.jpg").unlink()
    assert full_photo_counts(read_lfw(tmp_path, tmp_path), {}) == {"Tony_Blair": 10}


def test_captions_come_from_the_table(whole: Path, tmp_path: Path) -> None:
    summary = prepare_lfw(whole, tmp_path, table(tmp_path / "a.csv", {"One": 1}))
    rows = read_manifest(tmp_path / "people.jsonl")
    one = next(row for row in rows if row.person == "One")
    assert "smiling" in one.caption
    assert one.captions[0] == one.caption
    assert {len(row.captions) for row in rows} == {8}
    assert {row.caption for row in rows if row != one} == {"a photo of a person"}
    assert summary.notes[-1] == '57 photos have no line in the attribute table: captioned "a photo of a person"'


def test_without_a_table_it_says_what_is_lost(whole: Path, tmp_path: Path) -> None:
    notes = prepare_lfw(whole, tmp_path).notes
    assert notes[0].startswith("a part of LFW (7 of 5,749 people, 58 of 13,233 photos)")
    assert notes[1].startswith('no attributes: every caption is "a photo of a person"')
    assert {text for row in read_manifest(tmp_path / "people.jsonl") for text in row.captions} == {"a photo of a person"}


def test_errata_near_duplicates_and_damaged_photos_are_dropped_with_a_reason(tmp_path: Path) -> None:
    layout(tmp_path, {"Mahmoud_Abbas": 12, "Anna": 3})
    (tmp_path / "Anna/Anna_0002.jpg").write_bytes(jpeg("Anna", 1, quality=40))
    (tmp_path / "Anna/Anna_0003.jpg").write_bytes(jpeg("Anna", 3)[:900])
    summary = prepare_lfw(tmp_path, tmp_path / "out")
    assert {photo.file: photo.reason for photo in summary.dropped} == {
        "Anna/Anna_0002.jpg": "near-duplicate of a kept photo",
        "Anna/Anna_0003.jpg": "Anna_0003.jpg is cut short or damaged",
        "Mahmoud_Abbas/Mahmoud_Abbas_0012.jpg": "mislabelled (LFW errata)",
    }
    assert set(ERRATA) & {row.file for row in read_manifest(tmp_path / "out/people.jsonl")} == set()
    assert "dropped Anna/Anna_0002.jpg: near-duplicate of a kept photo" in str(summary)


def test_counts_are_taken_before_photos_are_dropped(tmp_path: Path) -> None:
    layout(tmp_path, {"George_W_Bush": 10})
    (tmp_path / "George_W_Bush/George_W_Bush_0010.jpg").write_bytes(jpeg("George_W_Bush", 1, quality=60))
    prepare_lfw(tmp_path, tmp_path / "out")
    assert {row.split for row in read_manifest(tmp_path / "out/people.jsonl")} == {"test"}


def test_one_folder_around_is_fine_and_other_files_are_counted(tmp_path: Path) -> None:
    layout(tmp_path / "lfw-deepfunneled", {"Anna": 2, "Bo": 1})
    (tmp_path / "lfw-deepfunneled/.DS_Store").write_bytes(b"")
    (tmp_path / "lfw-deepfunneled/Anna/Bo_0001.jpg").write_bytes(b"")
    (tmp_path / "README.txt").write_bytes(b"")
    assert [photo.file for photo in read_lfw(tmp_path, tmp_path)] == [f"Anna/Anna_000{n}.jpg" for n in (1, 2)] + [
        "Bo/Bo_0001.jpg"
    ]
    assert prepare_lfw(tmp_path, tmp_path.parent / "out").notes[-1] == "2 files are not NAME/NAME_0001.jpg: passed over"


def test_an_archive_gives_what_its_folder_gives(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(whole.glob("*/*.jpg"), reverse=True)  # an archive's order is its own
    members = {f"lfw-deepfunneled/{path.relative_to(whole).as_posix()}": path.read_bytes() for path in files}
    archive = trust(archived(tmp_path / "lfw.tgz", members), monkeypatch)
    prepare_lfw(archive, tmp_path / "out")
    first = (tmp_path / "out/people.jsonl").read_bytes()
    prepare_lfw(archive, tmp_path / "out")
    prepare_lfw(whole, tmp_path / "folder")
    assert first == (tmp_path / "out/people.jsonl").read_bytes() == (tmp_path / "folder/people.jsonl").read_bytes()
    assert (tmp_path / "out/photos/One/One_0001.jpg").read_bytes() == jpeg("One", 1)


def test_nothing_but_photos_leaves_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {
        "lfw/Anna/Anna_0001.jpg": jpeg("Anna", 1),
        "../../Bo/Bo_0001.jpg": jpeg("Bo", 1),
        "lfw/run.sh": b"",
        "/etc/x.jpg": b"",
    }
    archive = trust(archived(tmp_path / "lfw.tgz", members, {"lfw/Cy/Cy_0001.jpg": "/etc/passwd"}), monkeypatch)
    prepare_lfw(archive, tmp_path / "a/b/out")
    extracted = tmp_path / "a/b/out/photos"
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*") if path != archive) == [
        "a/b/out/people.jsonl",
        "a/b/out/photos/Anna/Anna_0001.jpg",
        "a/b/out/photos/Bo/Bo_0001.jpg",
        "a/b/out/report.json",
    ]
    assert extracted.is_dir()


def test_another_archive_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    (tmp_path / "lfw.tgz").write_bytes(b"not the archive")
    with pytest.raises(DataError, match=r"lfw.tgz has md5 \w{32}; the published lfw-deepfunneled.tgz has 68331da3"):
        prepare_lfw(tmp_path / "lfw.tgz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("make", "message"), [(False, "does not exist"), (True, "has no photo in LFW's layout")])
def test_no_source_no_rows(tmp_path: Path, make: bool, message: str) -> None:
    if make:
        (tmp_path / "lfw").mkdir()
    with pytest.raises(DataError, match=message):
        prepare_lfw(tmp_path / "lfw", tmp_path / "out")
    assert not (tmp_path / "out/people.jsonl").exists()
