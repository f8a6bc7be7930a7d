"""A folder as people have it: every entry gets a verdict, and one bad photo never stops the others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tenth.core.errors import DataError
from tenth.core.types import Photo
from tenth.core.wording import MAX_ITEMS
from tenth.data.faces.detection import crop_face, find_faces
from tenth.data.photo import open_photo
from tenth.data.photo_folder import (
    CAPTION,
    PhotoVerdict,
    inspect_folder,
    read_person,
    verdicts_to_json,
    verdicts_to_table,
)
from tenth.data.photo_sources import natural_sort_key


def same(_: Photo) -> np.ndarray:
    return np.zeros(128)


def canvas(*parts: tuple[Path, int, tuple[int, int]], size: tuple[int, int]) -> Image.Image:
    """Faces on grey: path, side and place of each."""
    image = Image.new("RGB", size, (120, 120, 120))
    for path, side, place in parts:
        image.paste(Image.open(path).convert("RGB").resize((side, side), Image.Resampling.LANCZOS), place)
    return image


def fill(folder: Path, photos: list[Path], count: int) -> list[str]:
    names = [f"{number}.png" for number in range(count)]
    for name, path in zip(names, photos, strict=False):
        shutil.copy(path, folder / name)
    return names


def codes(folder: Path) -> dict[str, str]:
    return {verdict.file: verdict.code for verdict in inspect_folder(folder, descriptor=same)}


def test_every_entry_has_a_row_in_order(tmp_path: Path, face_photos: list[Path]) -> None:
    for name, path in zip(("10.png", "2.png", "b.PNG"), face_photos, strict=False):
        shutil.copy(path, tmp_path / name)
    (tmp_path / "a.txt").write_text("no photo")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")  # litter: it has no row
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / "more").mkdir()
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "wall.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "wall.jpg").read_bytes()[:900])
    assert list(codes(tmp_path).items()) == [
        ("2.png", "ok"),
        ("10.png", "ok"),
        (".thumbnails", "hidden"),
        ("a.txt", "not-a-photo"),
        ("b.PNG", "ok"),
        ("cut.jpg", "truncated"),
        ("empty.jpg", "empty"),
        ("more", "folder"),
        ("wall.jpg", "no-face"),
    ]
    person = read_person(tmp_path, descriptor=same)
    assert [photo.file for photo in person.photos] == ["2.png", "10.png", "b.PNG"]
    assert person.name == tmp_path.name


def test_natural_order() -> None:
    names = ["img10.jpg", "IMG2.jpg", "img2.jpg", "b", "a1b2", "a01b1", "1"]
    assert sorted(names, key=natural_sort_key) == ["1", "a01b1", "a1b2", "b", "IMG2.jpg", "img2.jpg", "img10.jpg"]


def test_two_faces_are_a_warning_and_the_largest_is_taken(tmp_path: Path, face_photos: list[Path]) -> None:
    parts = ((face_photos[0], 100, (0, 0)), (face_photos[1], 200, (190, 50)))
    canvas(*parts, size=(400, 300)).save(tmp_path / "two.png")
    (verdict,) = inspect_folder(tmp_path, descriptor=same)
    assert verdict.accepted
    assert verdict.warnings[0].startswith("2 faces")
    assert verdict.photo is not None
    assert verdict.photo.face is not None
    whole = open_photo(tmp_path / "two.png").pixels
    assert np.array_equal(crop_face(verdict.photo.pixels, verdict.photo.face), crop_face(whole, find_faces(whole)[0]))


def test_a_small_face_is_refused(tmp_path: Path, face_photos: list[Path]) -> None:
    canvas((face_photos[0], 48, (30, 30)), size=(110, 110)).save(tmp_path / "small.png")
    (verdict,) = inspect_folder(tmp_path, descriptor=same)
    assert verdict.code == "small-face"
    assert "40 are needed" in verdict.reason


def blurred(folder: Path, photos: list[Path], sigma: float) -> list[PhotoVerdict]:
    for number, path in enumerate(photos):
        Image.open(path).convert("RGB").filter(ImageFilter.GaussianBlur(sigma)).save(folder / f"{number}.png")
    return inspect_folder(folder, descriptor=same)


def test_sharp_photos_are_not_called_blurred(tmp_path: Path, face_photos: list[Path]) -> None:
    """The example photos are a small model's, which is soft itself: some are warned of, none is refused."""
    verdicts = blurred(tmp_path, face_photos, 0)
    assert [verdict.code for verdict in verdicts] == ["ok"] * len(face_photos)
    assert any(not verdict.warnings for verdict in verdicts)


def test_some_blur_is_a_warning(tmp_path: Path, face_photos: list[Path]) -> None:
    verdicts = [verdict for verdict in blurred(tmp_path, face_photos, 1.8) if verdict.accepted]
    assert len(verdicts) > len(face_photos) / 2
    assert sum("blurred" in warning for verdict in verdicts for warning in verdict.warnings) > len(verdicts) / 2


def test_much_blur_is_refused(tmp_path: Path, face_photos: list[Path]) -> None:
    found = [verdict.code for verdict in blurred(tmp_path, face_photos, 4)]
    assert set(found) <= {"blurred", "no-face"}  # the detector, too, gives up on some
    assert "blurred" in found


def test_the_later_of_two_copies_is_refused(tmp_path: Path, face_photos: list[Path]) -> None:
    fill(tmp_path, face_photos, 2)
    shutil.copy(face_photos[0], tmp_path / "3.png")
    Image.open(face_photos[1]).convert("RGB").save(tmp_path / "4.jpg", quality=60)
    verdicts = {verdict.file: verdict for verdict in inspect_folder(tmp_path, descriptor=same)}
    assert {name: verdict.code for name, verdict in verdicts.items()} == {
        "0.png": "ok",
        "1.png": "ok",
        "3.png": "duplicate",
        "4.jpg": "duplicate",
    }
    assert "0.png" in verdicts["3.png"].reason
    assert "1.png" in verdicts["4.jpg"].reason


def test_a_caption_beside_a_photo_is_no_unusable_photo(tmp_path: Path, face_photos: list[Path]) -> None:
    fill(tmp_path, face_photos, 1)
    (tmp_path / "0.caption").write_text("a photo of a person")
    (tmp_path / "0.txt").touch()
    (tmp_path / "notes.txt").write_text("buy milk")
    shutil.copy(face_photos[1], tmp_path / "1.txt")
    verdicts = inspect_folder(tmp_path, descriptor=same)
    assert {verdict.file: verdict.code for verdict in verdicts} == {
        "0.caption": CAPTION,
        "0.png": "ok",
        "0.txt": CAPTION,
        "1.txt": "ok",  # its content is a photo
        "notes.txt": "not-a-photo",
    }
    assert verdicts_to_table(verdicts).endswith("2 of 3 accepted")


@pytest.mark.slow
@pytest.mark.parametrize("place", [(0, 0), (701, 333), (1250, 750), (650, 0)])
def test_the_kept_part_gives_the_same_crops(tmp_path: Path, face_photos: list[Path], place: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(90, 160, (1000, 1500, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    image.paste(Image.open(face_photos[0]).convert("RGB").resize((256, 256)).rotate(10), place)
    image.save(tmp_path / "a.png")
    whole = open_photo(tmp_path / "a.png")
    (face,) = find_faces(whole.pixels)
    (photo,) = read_person(tmp_path, descriptor=same).photos
    assert photo.face is not None
    assert photo.digest == whole.digest
    assert photo.pixels.size < whole.pixels.size
    assert photo.pixels.base is None  # no view that keeps the whole photo alive
    for side, padding in ((128, 0.5), (150, 0.25), (300, 0.3)):
        kept = crop_face(photo.pixels, photo.face, size=side, padding=padding)
        assert np.array_equal(kept, crop_face(whole.pixels, face, size=side, padding=padding))


def test_nothing_usable_says_why_for_each(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("no photo")
    (tmp_path / "b.jpg").touch()
    with pytest.raises(DataError, match=r"a\.txt.*not a photo.*b\.jpg.*is empty.*tenth photos"):
        read_person(tmp_path, descriptor=same)
    for number in range(MAX_ITEMS):
        (tmp_path / f"c{number}").touch()
    with pytest.raises(DataError, match=r"^[^|]*( \| [^|]*){2} \| and 2 more\)"):
        read_person(tmp_path, descriptor=same)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert inspect_folder(tmp_path, descriptor=same) == []
    with pytest.raises(DataError, match="empty"):
        read_person(tmp_path, descriptor=same)


def test_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="does not exist"):
        inspect_folder(tmp_path / "nothing", descriptor=same)
    with pytest.raises(DataError, match="is a file"):
        inspect_folder(tmp_path / "a.jpg", descriptor=same)
    with pytest.raises(DataError, match=r"a has no usable photo \(a.jpg: a.jpg is empty"):
        read_person(tmp_path / "a.jpg", descriptor=same)

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        inspect_folder(tmp_path, descriptor=same)


VERDICTS = [
    PhotoVerdict("a.png", True, "ok", warnings=("2 faces were found",)),
    PhotoVerdict("evil\x1b[2J.txt", False, "not-a-photo", "evil\x1b[2J.txt is not a photo"),
]


def test_json() -> None:
    assert json.loads(json.dumps(verdicts_to_json(VERDICTS))) == {
        "photos": [
            {"file": "a.png", "accepted": True, "code": "ok", "reason": "", "warnings": ["2 faces were found"]},
            {
                "file": "evil\x1b[2J.txt",
                "accepted": False,
                "code": "not-a-photo",
                "reason": "evil\x1b[2J.txt is not a photo",
                "warnings": [],
            },
        ]
    }


def test_table() -> None:
    table = verdicts_to_table(VERDICTS)
    assert "\x1b" not in table
    assert table.splitlines()[0].split() == ["a.png", "yes"]
    assert "warning: 2 faces were found" in table.splitlines()[1]
    assert "not-a-photo: evil" in table.splitlines()[2]
    assert table.splitlines()[-1] == "1 of 2 accepted"
