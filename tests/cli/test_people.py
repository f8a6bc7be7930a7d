"""`tenth generate --person SOURCE@REGION`: several people in one image."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tenth.cli.main import main
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import Identity, Photo
from tenth.data.faces.detection import find_faces
from tenth.experiments.generation.people_figures import RegionFigures, measure_regions, measured_people
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.sampling.generate import Request
from tenth.sampling.people import PlacedPerson, Region
from toy_drawing import random_identity

Output = pytest.CaptureFixture[str]
DRAWN = '--prompt "a photo of people" --steps 2 -n 2'
PEOPLE = "--person anna@left --person bert@right"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of two people, masks; the working directory."""
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.setenv("TENTH_PEOPLE_DIR", str(tmp_path / "people"))
    monkeypatch.chdir(tmp_path)
    for folder, photos in (("anna", "0[12].png"), ("bert", "0[45].png")):
        Path(folder).mkdir()
        for photo in EXAMPLE_PHOTOS_DIR.glob(photos):
            shutil.copy(photo, folder)
    left = np.zeros((64, 64), np.uint8)
    left[:, :32] = 255
    Image.fromarray(left).save("left.png")
    Image.fromarray(255 - left).save("right.png")
    Image.new("L", (64, 64)).save("black.png")
    Image.new("L", (64, 32), "white").save("wide.png")
    Path("text.txt").write_text("no picture")
    return tmp_path


def generate(line: str, model: Path) -> int:
    return main(["generate", *shlex.split(line), "--model", str(model)])


def pixels(name: str) -> np.ndarray:
    return np.asarray(Image.open(name)).astype(int)


@pytest.mark.slow
def test_masks_are_the_halves_that_they_paint_and_a_run_goes_on(sd15_folder: Path, capsys: Output) -> None:
    assert generate(f"{PEOPLE} {DRAWN} -o halves", sd15_folder) == 0
    assert generate(f"--person anna@left.png --person bert@right.png {DRAWN} -o masks", sd15_folder) == 0
    assert generate(f"--person bert@left --person anna@right {DRAWN} -o swapped", sd15_folder) == 0
    for name in ("0000.png", "0001.png"):
        assert np.array_equal(pixels(f"halves/{name}"), pixels(f"masks/{name}"))
        assert not np.array_equal(pixels(f"halves/{name}"), pixels(f"swapped/{name}"))

    # The record, and a run whose second image is missing.
    record = json.loads(Path("halves/run.json").read_text())
    assert record["settings"]["people"] == [{"box": [0, 0, 0.5, 1]}, {"box": [0.5, 0, 1, 1]}]
    assert len(record["settings"]["photos"]) == 4
    assert list(record["results"]["people"]) == ["0000.png", "0001.png"]
    assert read_sample("masks/0000.png")["people"][0].keys() == {"mask_sha256"}
    text = Path("masks/run.json").read_text()
    assert not any(word in text for word in ("anna", "bert", "left.png"))
    before = Path("halves/0001.png").read_bytes()
    Path("halves/0001.png").unlink()
    assert generate(f"{PEOPLE} {DRAWN} -o halves", sd15_folder) == 0
    assert Path("halves/0001.png").read_bytes() == before
    assert generate(f"--person bert@left --person anna@right {DRAWN} -o halves", sd15_folder) == 1
    assert "the images of another run" in capsys.readouterr().err


@pytest.mark.slow
def test_people_are_identity_files_and_saved_names_too(sd15_folder: Path, capsys: Output) -> None:
    assert main(["identity", "anna", "--model", str(sd15_folder), "--name", "Anna B", "--consent", "self"]) == 0
    assert main(["identity", "bert", "--model", str(sd15_folder), "-o", "b.safetensors"]) == 0
    assert generate(f'--person "Anna B@left" --person b.safetensors@right {DRAWN} -o files', sd15_folder) == 0
    assert generate(f"{PEOPLE} {DRAWN} -o photos", sd15_folder) == 0
    assert np.array_equal(pixels("files/0000.png"), pixels("photos/0000.png"))
    figures = json.loads(Path("files/run.json").read_text())["results"]["people"]["0000.png"]
    assert figures == [{"identity": None, "of_others": [None]}] * 2  # no photos, no faces


@pytest.mark.slow
def test_settings_of_an_image_say_that_people_are_to_be_given_again(sd15_folder: Path, capsys: Output) -> None:
    assert generate(f"{PEOPLE} {DRAWN} -o first", sd15_folder) == 0
    taken = "--settings-from first/0000.png -n 1"
    for people, said in (
        ("anna", "shows 2 people in regions, and no PNG says who they are: give each again with --person"),
        ("--person anna@top --person bert@bottom", "had people in other regions than this command"),
    ):
        capsys.readouterr()
        assert generate(f"{people} {taken} -o {people.split()[-1]}-again", sd15_folder) == 0
        assert said in capsys.readouterr().err
    assert generate(f"{PEOPLE} {taken} -o again", sd15_folder) == 0
    assert "regions" not in capsys.readouterr().err
    assert np.array_equal(pixels("again/0000.png"), pixels("first/0000.png"))


def test_each_person_is_recognized_in_their_region(toy_model: object) -> None:
    """Two faces side by side: each half is like its own photos, and an empty one has no figure."""
    faces = [np.asarray(Image.open(EXAMPLE_PHOTOS_DIR / f"0{number}.png").convert("RGB")) for number in (1, 4)]
    people = []
    for face, side in zip(faces, ("left", "right"), strict=True):
        photo = Photo(face, "", face=find_faces(face)[0])
        people.append(PlacedPerson(random_identity(toy_model), Region.parse(side), (photo,)))
    both, empty = np.concatenate(faces, 1), np.concatenate([faces[0], np.full_like(faces[0], 128)], 1)
    first, second = measure_regions([both, empty], people)
    for figures in first:
        assert figures.identity is not None
        assert figures.of_others[0] is not None
        assert figures.identity > 0.9
        assert figures.of_others[0] < figures.identity
    assert second[0].identity == pytest.approx(first[0].identity, abs=0.1)
    assert second[1] == RegionFigures(None, (None,))
    unknown = [people[0], PlacedPerson(people[1].identity, people[1].region)]
    assert measure_regions([both], unknown)[0][0].of_others == (None,)
    assert measured_people([Request(Identity("m", "", "", "", people[0].identity.embeddings), "a man", 0)], [Path()]) == {}


# What is typed after `tenth generate`, the exit code, and what the line says.
CASES = (
    (f"anna {PEOPLE} {DRAWN}", 2, "leave out SOURCE"),
    (DRAWN, 2, "photos, an identity file or a saved name; or --person"),
    (f"--person anna {DRAWN}", 2, "'anna' is not a person, @, and where in the image"),
    (f"--person @left {DRAWN}", 2, "'@left' is not a person"),
    (f"--person anna@ {DRAWN}", 2, "'anna@' is not a person"),
    (f"--person anna@middle {DRAWN}", 1, "left, right, top, bottom, four fractions"),
    (f"--person anna@0,0,0.5 {DRAWN}", 1, "the region '0,0,0.5'"),
    (f"--person anna@0.5,0,0.2,1 {DRAWN}", 1, "left below right"),
    (f"--person anna@0,0,0.01,1 {DRAWN}", 1, "Make it larger"),
    (f"--person anna@none.png {DRAWN}", 1, "none.png"),
    (f"--person anna@text.txt {DRAWN}", 1, "text.txt"),
    (f"--person anna@black.png {DRAWN}", 1, "black everywhere"),
    (f"--person anna@left --person bert@wide.png {DRAWN}", 1, "a person's mask has 64x32 pixels"),
    (f"--person nobody@left {DRAWN}", 1, "nobody"),
    (f"--person text.txt@left {DRAWN}", 1, "text.txt"),
    (f"{PEOPLE} --method dreambooth {DRAWN}", 1, "it learns weights, which act everywhere"),
    (f"{PEOPLE} --photo-weight 01.png=0.5 {DRAWN}", 2, "it does not say whose photo it means"),
    (f"{PEOPLE} --candidates 4 {DRAWN}", 2, "leave it out with --person"),
    (f"{PEOPLE} --size 32 --face-detailer {DRAWN}", 1, "does not know whose it is"),
    (f"{PEOPLE} --image left.png --mask left.png {DRAWN}", 1, "moves with the mask"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("line", "code", "said"), CASES, ids=[line for line, _, _ in CASES])
def test_bad_input_is_one_clear_line_and_nothing_is_written(
    line: str, code: int, said: str, here: Path, sd15_folder: Path, capsys: Output
) -> None:
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    assert generate(f"{line} -o new", sd15_folder) == code
    output = capsys.readouterr()
    assert output.out == ""
    (complaint,) = [each for each in output.err.splitlines() if each.startswith("tenth")]
    assert output.err.splitlines()[-1] == complaint
    assert said in complaint
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_the_pocket_model_draws_one_face(toy_folder: Path, capsys: Output) -> None:
    assert generate(f"{PEOPLE} {DRAWN} -o new", toy_folder) == 1
    assert "it draws one aligned face, which fills the image" in capsys.readouterr().err
    assert not Path("new").exists()
