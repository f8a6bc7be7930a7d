"""A folder for each person -> people.jsonl. Toy people: drawn pixels, the same at every run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.core.errors import DataError
from tenth.data.image_folder import prepare_folder
from tenth.data.manifest import ManifestEntry, ManifestSummary, read_manifest
from tenth.data.photo import open_photo
from tenth.data.splits import fold_of, split_by_name

NEUTRAL = "a photo of a person"


def picture(seed: object) -> Image.Image:
    """(96, 96, 3), unlike that of any other seed: 12 x 12 random tiles."""
    number = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:4], "big")
    tiles = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(tiles).resize((96, 96), Image.Resampling.BICUBIC)


def put(source: Path, *files: str, same: str = "") -> Path:
    """Save a picture at each path; its kind follows from the ending. same: the picture's seed, else its path."""
    for file in files:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        picture(same or file).save(source / file)
    return source


def reasons(summary: ManifestSummary) -> dict[str, str]:
    return {photo.file: photo.reason for photo in summary.dropped}


def written(source: Path, output: Path) -> tuple[ManifestSummary, list[ManifestEntry]]:
    summary = prepare_folder(source, output)
    return summary, read_manifest(output / "people.jsonl")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two people with two photos each."""
    return put(tmp_path / "people", "Anna/1.png", "Anna/2.png", "Bo/1.png", "Bo/2.png")


def test_every_kind_of_photo_gets_a_row_in_order(tmp_path: Path) -> None:
    put(tmp_path / "in", "Bo/10.png", "Bo/2.webp", "Bo/1.JPG", "anna/no ending.jpeg", "10/a.png", "9/a.png")
    (tmp_path / "in/anna/no ending.jpeg").rename(tmp_path / "in/anna/no ending")
    summary, rows = written(tmp_path / "in", tmp_path / "out")
    assert [row.file for row in rows] == ["9/a.png", "10/a.png", "anna/no ending", "Bo/1.JPG", "Bo/2.webp", "Bo/10.png"]
    assert reasons(summary) == {}
    for row in rows:
        assert row.person == row.file.split("/")[0]
        assert row.digest == open_photo(tmp_path / "in" / row.file).digest
        assert (row.fold, row.split) == (fold_of(row.person), split_by_name(row.person))


def test_a_heic_photo_is_read(source: Path, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(picture("heic")).save(source / "Anna/3.heic")
    assert "Anna/3.heic" in [row.file for row in written(source, tmp_path / "out")[1]]


def test_the_same_source_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    (source / "Anna/1.txt").write_text("a photo of a woman")
    for name in ("one", "two", "two"):
        prepare_folder(source, tmp_path / name)
    assert (tmp_path / "one/people.jsonl").read_bytes() == (tmp_path / "two/people.jsonl").read_bytes()
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"people.jsonl", "report.json", ".people.journal"}


@pytest.mark.parametrize("inside", [".", "written"])
def test_what_it_wrote_itself_is_no_person(source: Path, inside: str) -> None:
    first = prepare_folder(source, source / inside)
    before = (source / inside / "people.jsonl").read_bytes()
    assert prepare_folder(source, source / inside) == first
    assert (source / inside / "people.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["Zoë O'Neill 王", "a\u2028b", "line\nbreak", "Dr. No.", "a\\b"])
def test_names_of_any_script_come_back(name: str, tmp_path: Path) -> None:
    put(tmp_path / "in", f"{name}/my photo (1).png")
    (row,) = written(tmp_path / "in", tmp_path / "out")[1]
    assert (row.person, row.file) == (name, f"{name}/my photo (1).png")
    assert open_photo(tmp_path / "in" / row.file).digest == row.digest


def test_a_name_that_is_no_text_comes_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"Andr\xe9")
    try:
        put(tmp_path / "in", f"{name}/1.png")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes text only")
    (row,) = written(tmp_path / "in", tmp_path / "out")[1]
    assert row.person == name


# Captions


def test_captions_lie_beside_the_photos(source: Path, tmp_path: Path) -> None:
    (source / "Anna/1.txt").write_text("\ufeff\n  a  photo of\ta woman \r\n\n a portrait\n", encoding="utf-8")
    (source / "Anna/2.TXT").write_text("eine Frau mit Hütchen 🎩", encoding="utf-8")
    (source / "Bo/1.txt").write_text(" \n\n")
    summary, rows = written(source, tmp_path / "out")
    said = {row.file: row.captions for row in rows}
    assert said == {
        "Anna/1.png": ("a photo of a woman", "a portrait") * 4,
        "Anna/2.png": ("eine Frau mit Hütchen 🎩",) * 8,
        "Bo/1.png": (NEUTRAL,) * 8,
        "Bo/2.png": (NEUTRAL,) * 8,
    }
    assert all(row.caption == row.captions[0] for row in rows)
    assert f'2 photos have no caption (Bo/1.png, Bo/2.png): "{NEUTRAL}" is taken' in summary.notes


def test_both_endings_of_captions_are_read(source: Path, tmp_path: Path) -> None:
    (source / "Anna/1.caption").write_text("a photo of a woman")
    (source / "Anna/2.caption").write_text("not this one")
    (source / "Anna/2.txt").write_text("a portrait")
    (source / "Bo/lost.caption").write_text("of no photo")
    summary, rows = written(source, tmp_path / "out")
    assert reasons(summary) == {}
    assert [row.caption for row in rows] == ["a photo of a woman", "a portrait", NEUTRAL, NEUTRAL]
    assert "1 photo has a .txt beside them, too (Anna/2.caption): that one is read" in summary.notes
    assert any("no photo of the same name beside them (Bo/lost.caption)" in note for note in summary.notes)


def test_every_photo_has_as_many_captions(source: Path, tmp_path: Path) -> None:
    (source / "Anna/1.txt").write_text("\n".join("abcdefghij"))
    (source / "Anna/2.txt").write_text("\n".join("abc"))
    summary, rows = written(source, tmp_path / "out")
    assert [row.captions for row in rows[:2]] == [tuple("abcdefgh"), tuple("abcabcab")]
    assert {len(row.captions) for row in rows} == {8}
    assert "1 photo has more than 8 captions (Anna/1.png): the first 8 are used" in summary.notes


def test_without_captions_it_says_what_is_lost(source: Path, tmp_path: Path) -> None:
    assert f'no captions: every one is "{NEUTRAL}"; measuring needs' in " ".join(prepare_folder(source, tmp_path).notes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("ein Hütchen".encode("latin-1"), r"Anna/2.txt is not UTF-8 \(byte 5\)"),
        ("a photo".encode("utf-16-le"), "Anna/2.txt has control characters"),
        (b"x" * 2_001, "Anna/2.txt has a line of 2,001 characters"),
        (b"x " * 60_000, "Anna/2.txt has 120 kB, more than the 100 kB that such a file may have"),
    ],
    ids=["latin", "utf-16", "long", "large"],
)
def test_a_caption_that_cannot_be_read_is_named(source: Path, tmp_path: Path, content: bytes, reason: str) -> None:
    (source / "Anna/1.txt").write_bytes(b"x" * 2_000)
    (source / "Anna/2.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"^{reason}; a caption is a line of UTF-8 text, at most 2,000 characters long. Save"):
        prepare_folder(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_all_wrong_captions_are_told_at_once(tmp_path: Path) -> None:
    put(tmp_path / "in", *(f"Anna/{number}.png" for number in range(5)))
    for number in range(5):
        (tmp_path / f"in/Anna/{number}.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"Anna/0.txt is not UTF-8 .*, Anna/2.txt is not UTF-8 .*, and 2 more;"):
        prepare_folder(tmp_path / "in", tmp_path / "out")


# What is dropped or passed over


def test_photos_that_cannot_be_opened_are_dropped_with_the_reason(source: Path, tmp_path: Path) -> None:
    (source / "Anna/3.jpg").write_bytes(b"not a photo")
    (source / "Anna/4.png").write_bytes((source / "Anna/1.png").read_bytes()[:400])
    (source / "Bo/5.png").symlink_to("nowhere")
    (source / "Bo/6.png").symlink_to("6.png")
    (source / "Cy").symlink_to("Cy")
    summary, rows = written(source, tmp_path / "out")
    assert len(rows) == 4
    assert list(reasons(summary)) == ["Anna/3.jpg", "Anna/4.png", "Bo/5.png", "Bo/6.png"]
    assert reasons(summary)["Anna/3.jpg"] == "3.jpg is not a photo; JPEG, PNG, WebP or HEIC is needed. Save it as JPEG."
    assert "dropped Anna/4.png: 4.png is cut short or damaged" in str(summary)


def test_copies_of_one_persons_photo_are_dropped(source: Path, tmp_path: Path) -> None:
    (source / "Anna/1 copy.png").write_bytes((source / "Anna/1.png").read_bytes())
    picture("Anna/2.png").resize((48, 48), Image.Resampling.LANCZOS).save(source / "Anna/small.jpg", quality=80)
    summary, _ = written(source, tmp_path / "out")
    assert reasons(summary) == {
        "Anna/1.png": "the same picture as Anna/1 copy.png",
        "Anna/small.jpg": "the same picture as Anna/2.png",
    }


def test_small_changes_before_a_plain_background_are_two_images(tmp_path: Path) -> None:
    (tmp_path / "in/Anna").mkdir(parents=True)
    for name in "ab":
        page = Image.new("RGB", (300, 300), "white")
        page.paste(picture(name), (102, 102))
        page.save(tmp_path / f"in/Anna/{name}.png")
    assert len(written(tmp_path / "in", tmp_path / "out")[1]) == 2


def test_a_photo_under_two_people_is_dropped_for_both_with_its_copies(source: Path, tmp_path: Path) -> None:
    (source / "Bo/x.png").write_bytes((source / "Anna/1.png").read_bytes())
    picture("Anna/1.png").save(source / "Anna/0.jpg", quality=90)
    summary, rows = written(source, tmp_path / "out")
    others = {"Anna/0.jpg": "Bo/x.png", "Anna/1.png": "Bo/x.png", "Bo/x.png": "Anna/0.jpg"}
    assert {photo.file: photo.other for photo in summary.dropped} == others
    assert reasons(summary)["Anna/1.png"].startswith("the same photo is Bo/x.png, and whose it is cannot be told; keep")
    assert [row.file for row in rows] == ["Anna/2.png", "Bo/1.png", "Bo/2.png"]


def test_what_is_passed_over_is_said(source: Path, tmp_path: Path) -> None:
    put(source, "Anna/old/1.png", "loose.png", ".hidden/1.png", "Anna/.thumb.png")
    (source / "Anna/one.txt").write_text("whose?")
    (source / "Cy/deep").mkdir(parents=True)
    summary, rows = written(source, tmp_path / "out")
    assert len(rows) == 4
    assert reasons(summary) == {}
    for note in (
        "1 file lies beside the people's folders: passed over",
        "2 folders lie inside people's folders (Anna, Cy): passed over; photos lie directly in a person's",
        "1 caption file has no photo of the same name beside them (Anna/one.txt): passed over",
        "1 person has no usable photo (Cy): left out",
    ):
        assert note in summary.notes


# Who is where


def test_one_photo_is_enough_for_a_row_but_it_is_said(source: Path, tmp_path: Path) -> None:
    put(source, "Cy/1.png")
    summary, rows = written(source, tmp_path / "out")
    assert rows[-1].person == "Cy"
    assert any(note.startswith("1 person has a single usable photo (Cy): to measure, or to train") for note in summary.notes)


def test_who_has_fewer_than_ten_photos_is_named(tmp_path: Path) -> None:
    for name, count in (("One", 1), ("Two", 2), ("Nine", 9), ("Ten", 10)):
        put(tmp_path / "in", *(f"{name}/{number}.png" for number in range(count)))
    notes = " ".join(prepare_folder(tmp_path / "in", tmp_path).notes)
    assert "2 people have two to nine usable photos (Nine, Two): what asks for nine references" in notes


def test_empty_splits_are_named(tmp_path: Path) -> None:
    put(tmp_path / "in", *(f"{number}/1.png" for number in range(30)))
    summary, rows = written(tmp_path / "in", tmp_path / "out")
    assert {row.split for row in rows} == {"train", "validation", "test"}
    assert not any(note.startswith("nobody is in") for note in summary.notes)
    for number in range(30):
        if split_by_name(str(number)) != "train":
            (tmp_path / f"in/{number}/1.png").unlink()
    last = prepare_folder(tmp_path / "in", tmp_path / "out").notes[-1]
    assert last.startswith("nobody is in validation, test: who is where follows from the folder's name alone")


# What cannot be used at all


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, "people does not exist; a folder of people is needed. Give the folder in which each person has a folder"),
        ([], "people is empty; each person has a folder with their photos in it"),
        (["1.png", "2.png"], "people has 2 files and no folder; .* Move the photos of each person into a folder of their own"),
        (["all/Anna/1.png"], r"people has no usable photo in its 1 folder \(they are empty\); each person has a folder"),
    ],
    ids=["missing", "empty", "flat", "deep"],
)
def test_another_layout_is_refused(files: list[str] | None, message: str, tmp_path: Path) -> None:
    if files is not None:
        (tmp_path / "people").mkdir()
        put(tmp_path / "people", *files)
    with pytest.raises(DataError, match=message):
        prepare_folder(tmp_path / "people", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "people.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"people.zip is a file; .* unpack an archive first"):
        prepare_folder(tmp_path / "people.zip", tmp_path / "out")


def test_no_usable_photo_leaves_the_old_file(source: Path, tmp_path: Path) -> None:
    prepare_folder(source, tmp_path / "out")
    before = (tmp_path / "out/people.jsonl").read_bytes()
    for photo in source.glob("*/*.png"):
        photo.write_bytes(b"")
    message = r"no usable photo in its 2 folders \(Anna/1.png: 1.png is empty; .* and 1 more\); each person has a folder"
    with pytest.raises(DataError, match=message):
        prepare_folder(source, tmp_path / "out")
    assert (tmp_path / "out/people.jsonl").read_bytes() == before
