"""Both kinds of attribute table, and what is wrong with a damaged one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenth.core.errors import DataError
from tenth.data.captions.attributes import BINARY_ATTRIBUTES, COLUMNS, NO_BEARD, OPEN_MOUTH, PUBLISHED_COLUMNS, read_attributes

HEADER = ",".join(COLUMNS)
SCORES = ("Male", NO_BEARD, *OPEN_MOUTH, *PUBLISHED_COLUMNS.values(), "Asian")


def own(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def line(file: str = "Anna/Anna_0001.jpg", gender: str = "F", **flags: str) -> str:
    return ",".join([file, gender, *(flags.get(flag, "") for flag in BINARY_ATTRIBUTES)])


def published(path: Path, *people: tuple[str, str], **scores: str) -> Path:
    rows = ["\t".join([*who, *(scores.get(column.replace(" ", "_"), "0.1") for column in SCORES)]) for who in people]
    text = ["#\t19 attributes of the faces of LFW", "\t".join(["#", "person", "imagenum", *SCORES]), *rows]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def test_our_table(tmp_path: Path) -> None:
    table = read_attributes(own(tmp_path / "a.csv", line(smiling="1", hat="0"), line("Bo/Bo_0002.jpg", "")))
    anna = table["Anna/Anna_0001.jpg"]
    assert (anna["gender"], anna["smiling"], anna["hat"], anna["beard"]) == ("F", True, False, None)
    assert list(table) == ["Anna/Anna_0001.jpg", "Bo/Bo_0002.jpg"]
    assert set(table["Bo/Bo_0002.jpg"].values()) == {None}


def test_a_mark_at_the_start_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = own(tmp_path / "a.csv", line())
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert list(read_attributes(path)) == ["Anna/Anna_0001.jpg"]


def test_the_published_table(tmp_path: Path) -> None:
    path = published(
        tmp_path / "a.txt", ("Aaron Eckhart", "1"), Male="1.57", Smiling="-0.9", Wearing_Necktie="2e0", No_Beard="-1"
    )
    row = read_attributes(path)["Aaron_Eckhart/Aaron_Eckhart_0001.jpg"]
    assert (row["gender"], row["smiling"], row["necktie"], row["beard"]) == ("M", False, True, True)
    assert row["hat"] is row["mouth_open"] is None  # 0.1: within the margin
    assert set(row) == {"gender", *BINARY_ATTRIBUTES}


@pytest.mark.parametrize(("slightly", "wide", "is_open"), [("1", "-1", True), ("-1", "-1", False), ("-1", "0", None)])
def test_a_mouth_is_open_if_one_of_its_columns_says_so(tmp_path: Path, slightly: str, wide: str, is_open: bool | None) -> None:
    path = published(tmp_path / "a.txt", ("Anna", "12"), Mouth_Slightly_Open=slightly, Mouth_Wide_Open=wide)
    assert read_attributes(path)["Anna/Anna_0012.jpg"]["mouth_open"] is is_open


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(hat="2")], r"a.csv, line 2: hat '2'; a value is 1, 0 or empty\. Correct the line"),
        ([line(), line("Bo/Bo_0001.jpg", "female")], r"line 3: gender 'female'; a gender is M, F or empty"),
        ([line(), line()], r"line 3: Anna/Anna_0001.jpg a second time; each photo has one line"),
        (["Anna/Anna_0001.jpg,F"], r"line 2: 2 cells; the header has 21"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_attributes(own(tmp_path / "a.csv", *lines))


@pytest.mark.parametrize(
    ("who", "scores", "message"),
    [
        (("Anna", "one"), {}, "line 3: imagenum 'one'; a photo has a whole number"),
        (("Anna", "1"), {"Smiling": "nan"}, "line 3: Smiling 'nan'; a score is a finite number"),
        (("Anna", "1"), {"Male": "yes"}, "line 3: Male 'yes'; a score is a finite number"),
        (("Anna", "1\t2"), {}, "line 3: 25 cells; the header has 24"),
    ],
)
def test_a_wrong_line_of_the_published_table_is_named(
    tmp_path: Path, who: tuple[str, str], scores: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_attributes(published(tmp_path / "a.txt", who, **scores))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"image,gender\nAnna,F\n", "has no column smiling, mouth_open, "),
        (b"", "has no column image, gender, "),
        (b"# nothing follows\n", "has no column person, imagenum, Male, "),
        (b"\xff\xfe\x00", "is not UTF-8"),
        (HEADER.encode() + b"\n" + b"a" * 200_000, "cannot be read as CSV"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_attributes(tmp_path / "a.csv")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist"):
        read_attributes(tmp_path / "none.csv")
