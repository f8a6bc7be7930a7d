"""What a person is given as: files and folders, weights of photos, a saved person; and the picture that images start from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tenth.cli.main import main
from tenth.core.files.png_metadata import read_sample
from tenth.core.types import Identity
from tenth.methods.identity_file import load_identity, save_identity
from tenth.methods.people.folder import PeopleFolder
from tenth.methods.people.record import Consent
from tenth.models.registry import load_model

PROMPT = "a photo of a person"
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(me_and_another: None) -> None:
    """Further files in the working directory."""
    del me_and_another
    Path("text.txt").write_text("no photo")
    Path("empty.png").touch()
    black = np.zeros((128, 128), np.uint8)
    Image.fromarray(black).save("black.png")
    black[40:60, 40:80] = 255
    Image.fromarray(black).save("mask.png")
    Image.new("RGB", (8, 8), "white").save("small.png")


@pytest.fixture
def model(toy_folder: Path) -> list[str]:
    return ["--model", str(toy_folder)]


def drawing(toy: list[str], *more: str) -> list[str]:
    return ["--prompt", PROMPT, *toy, "-n", "1", "--steps", "2", *more]


def identity_json(words: list[str], capsys: Output) -> dict[str, object]:
    capsys.readouterr()
    assert main(["identity", *words, "--json"]) == 0
    table: dict[str, object] = json.loads(capsys.readouterr().out)
    return table


# Files and folders


def test_the_files_of_a_folder_are_the_folder(model: list[str], capsys: Output) -> None:
    files = [str(path) for path in sorted(Path("me").iterdir())]
    assert main(["identity", "me", *model, "-o", "folder.safetensors"]) == 0
    assert main(["identity", *reversed(files), *model, "-o", "files.safetensors"]) == 0
    assert Path("folder.safetensors").read_bytes() == Path("files.safetensors").read_bytes()
    assert identity_json(["me", "extra.png", *model, "-o", "mixed.safetensors"], capsys)["photos"] == 4
    assert main(["photos", *files[:2], "text.txt"]) == 0
    said = capsys.readouterr().out
    assert "text.txt  no   not-a-photo" in said
    assert "2 of 3 accepted" in said


def test_two_files_of_one_name_are_called_by_their_paths(model: list[str], capsys: Output) -> None:
    Path("other").mkdir()
    shutil.copy("extra.png", "other/01.png")
    table = identity_json(["me", "other/01.png", *model, "-o", "a.safetensors", "--photo-weight", "other/01.png=0"], capsys)
    weights = table["weights"]
    assert isinstance(weights, dict)
    assert (list(weights)[:2], weights["other/01.png"]) == (["me/01.png", "other/01.png"], 0)


# Weights of photos


@pytest.mark.slow
def test_a_weight_is_recorded_and_zero_is_as_if_not_given(model: list[str], capsys: Output) -> None:
    for method in ("ip-adapter-consensus", "ip-adapter-avg"):
        three, four = f"{method}-3.safetensors", f"{method}-4.safetensors"
        assert main(["identity", "me", *model, "--method", method, "-o", three]) == 0
        without = ["me", "extra.png", "--photo-weight", "extra.png=0", *model, "--method", method, "-o", four]
        table = identity_json(without, capsys)
        assert table["leave_one_out"]["extra.png"] == pytest.approx(0, abs=1e-12)  # type: ignore[index]
        one, other = load_identity(three), load_identity(four)
        assert one.embeddings is not None
        assert other.embeddings is not None
        torch.testing.assert_close(one.embeddings, other.embeddings, atol=1e-6, rtol=0)
        assert (one.photo_weights, other.photo_weights) == ((), (1, 1, 1, 0))
    assert main(["generate", "me", "--photo-weight", "me/02.png=0.3", *drawing(model), "-o", "out"]) == 0
    record = json.loads(Path("out/run.json").read_text())["settings"]
    assert record["photo_weights"] == dict(zip(record["photos"], (1, 0.3, 1), strict=True))


@pytest.mark.parametrize("method", ["ip-adapter", "ip-adapter-max", "ip-adapter-concat", "ip-adapter-set", "dreambooth"])
def test_methods_without_shares_of_photos_refuse_weights(method: str, model: list[str], capsys: Output) -> None:
    given = ["identity", "me", "--photo-weight", "01.png=0.5", *model, "--method", method, "-o", "me.safetensors"]
    assert main(given) == 1
    assert f"tenth: {method} with photo weights; it takes none: " in capsys.readouterr().err
    assert not Path("me.safetensors").exists()


def test_what_leaving_a_photo_out_changes_is_said(model: list[str], capsys: Output) -> None:
    assert main(["identity", "me", *model, "-o", "me.safetensors"]) == 0
    said = capsys.readouterr().err
    for name in ("01.png", "02.png", "03.png"):
        assert f"{name}: counts " in said
    assert said.count("; without it the identity moves by 0.") == 3
    assert "(moves are in cosine distance, 0 none to 2)" in said
    table = identity_json(["extra.png", *model, "-o", "one.safetensors"], capsys)
    assert table["leave_one_out"] == {}


def test_without_the_only_photo_that_counts_nothing_is_left(model: list[str], capsys: Output) -> None:
    weights = ["--photo-weight", "01.png=0", "--photo-weight", "02.png=0"]
    table = identity_json(["me", *model, *weights, "-o", "me.safetensors"], capsys)
    assert table["leave_one_out"]["03.png"] is None
    assert table["leave_one_out"]["01.png"] == pytest.approx(0, abs=1e-6)
    assert main(["identity", "me", *model, *weights, "-o", "me.safetensors"]) == 0
    assert "03.png: counts 100.0%; without it nothing is left" in capsys.readouterr().err


# Start images


def test_images_start_from_a_picture_are_recorded_and_resumed(model: list[str], capsys: Output) -> None:
    started = drawing(model, "--image", "extra.png", "--strength", "0.5")
    assert main(["generate", "me", *started, "-o", "out"]) == 0
    said = read_sample("out/0000.png")
    assert (said["start_image"]["strength"], len(said["start_image"]["sha256"])) == (0.5, 64)
    assert json.loads(Path("out/run.json").read_text())["settings"]["start_images"] == [said["start_image"]]
    before = Path("out/0000.png").read_bytes()
    Path("out/run.json").rename("out/.begun.json")  # as if killed before it was written
    record = json.loads(Path("out/.begun.json").read_text())
    Path("out/.begun.json").write_text(json.dumps({"kind": "generate", "settings": record["settings"], "seconds": {}}))
    assert main(["generate", "me", *started, "-o", "out"]) == 0
    assert Path("out/0000.png").read_bytes() == before
    capsys.readouterr()
    assert main(["generate", "me", *drawing(model, "--image", "extra.png", "--strength", "0.7"), "-o", "out"]) == 1
    assert "holds the images of another run" in capsys.readouterr().err


@pytest.mark.slow
def test_settings_from_says_that_the_picture_must_be_given_again(model: list[str], capsys: Output) -> None:
    masked = ["--image", "extra.png", "--mask", "mask.png"]
    assert main(["generate", "me", *drawing(model, *masked, "--strength", "0.5"), "-o", "out"]) == 0
    assert "white of the mask is made anew, black stays as it is to the last bit" in capsys.readouterr().err
    again = ["generate", "me", *model, "-n", "1", "--settings-from", "out/0000.png"]
    assert main([*again, "-o", "without"]) == 0
    said = capsys.readouterr().err
    assert "which no PNG holds: give it again with --image, and its mask with --mask; without it" in said
    assert main([*again, *masked, "-o", "with"]) == 0
    assert "another" not in capsys.readouterr().err
    assert Path("with/0000.png").read_bytes() == Path("out/0000.png").read_bytes()
    assert main([*again, "--image", "me/01.png", "-o", "other"]) == 0
    assert "--settings-from had another start image than this command" in capsys.readouterr().err
    kept = np.asarray(Image.open("mask.png")) == 0
    made, given = (np.asarray(Image.open(path).convert("RGB")) for path in ("out/0000.png", "extra.png"))
    assert np.array_equal(made[kept], given[kept])


# Wrong input

BAD = [
    ("generate me me/01.png", 1, "me/01.png is given twice"),
    ("generate me/01.png text.txt", 1, "text.txt cannot be used (not-a-photo"),
    ("generate me/01.png empty.png", 1, "empty.png cannot be used (empty"),
    (
        "generate me/01.png me/02.pgn",
        1,
        "me/02.pgn does not exist; a photo or a folder of photos is needed. Did you mean 02.png?",
    ),
    ("generate me me.safetensors", 1, "me.safetensors is an identity file, among 2"),
    (
        "generate ana",
        1,
        "ana does not exist; photos, an identity file, or the name of a saved person is needed (saved: anna). Did",
    ),
    ("generate me anna", 1, "anna is a saved person, among 2 sources"),
    (
        "generate me --photo-weight 1.png=2",
        1,
        "--photo-weight 1.png=2 is of no photo; one of 01.png, 02.png, 03.png is needed. Did",
    ),
    ("generate me --photo-weight 01.png", 2, "'01.png' is not a photo, =, and a number from 0 to 100"),
    ("generate me --photo-weight 01.png=-1", 2, "a number from 0 to 100"),
    ("generate me --photo-weight 01.png=nan", 2, "a number from 0 to 100"),
    ("generate me --photo-weight 01.png=1 --photo-weight 01.png=2", 2, "a photo is given twice"),
    ("generate me --photo-weight 01.png=1 --photo-weight me/01.png=2", 1, "is of a photo that has one"),
    ("generate me/01.png --photo-weight 01.png=0", 1, "no photo counts"),
    ("generate anna --photo-weight 01.png=1", 2, "it is for photos"),
    ("generate me --image none.png", 1, "none.png does not exist"),
    ("generate me --image text.txt", 1, "text.txt is not a photo"),
    ("generate me --image extra.png --strength 0", 1, "0 would change nothing"),
    ("generate me --image extra.png --strength 2", 2, "a number from 0 to 1"),
    ("generate me --mask mask.png", 1, "it is for an image"),
    ("generate me --image extra.png --mask mask.png --size 256", 1, "Leave out the size"),
    ("generate me --image extra.png --mask black.png", 1, "the mask is black everywhere"),
    ("generate me --image extra.png --mask small.png", 1, "the mask has 8x8 pixels; the picture has 128x128"),
    ("generate me --image extra.png --mask text.txt", 1, "text.txt is not a photo"),
    ("identity me", 2, "give one of -o FILE and --name NAME"),
    ("identity me --name bert", 1, "bert without a consent; whose faces may be kept by name is recorded"),
    ("identity me --name bert --consent permission", 1, "--consent permission without who gave it; the person, or the licence"),
    ("identity me --name bert --consent self --consent-until 2020-01-01", 1, "until is '2020-01-01'"),
    ("identity me --name bert --consent self --consent-until soon", 2, "'soon' is not a day such as 2030-12-31"),
    ("identity me --name bert --consent nobody", 2, "'nobody' is not one of self, permission, licensed"),
    ("identity me --name bert --consent-by Bert", 2, "it is for --consent"),
    ("identity me -o new.safetensors --consent self", 2, "it is for --name"),
    ("identity me --name ../anna --consent self", 1, "the name '../anna'; a name has at most 100 letters"),
    ("identity anna -o new.safetensors", 2, "photos are needed; this is an identity already"),
    ("photos none", 1, "none does not exist"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("line", "code", "said"), BAD, ids=[line for line, _, _ in BAD])
def test_wrong_input_is_one_line_and_nothing_is_written(
    line: str, code: int, said: str, toy_folder: Path, model: list[str], capsys: Output
) -> None:
    loaded = load_model(str(toy_folder))
    made = Identity("ip-adapter", loaded.name, loaded.encoder.name, loaded.adapter_name, torch.ones(1, 128))
    PeopleFolder().save("anna", Consent("self"), identity=made)
    save_identity(made, "me.safetensors")
    before = sorted(path for path, _, _ in os.walk("."))
    command, *words = line.split()
    more = {"generate": [*drawing(model), "-o", "out"], "identity": model, "photos": []}[command]
    assert main([command, *words, *more]) == code
    complaint = capsys.readouterr()
    assert complaint.out == ""
    assert said in complaint.err
    assert complaint.err.count("\n") == 1
    assert sorted(path for path, _, _ in os.walk(".")) == before
