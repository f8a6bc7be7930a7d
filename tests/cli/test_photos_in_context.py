"""Photos in context by the commands, on a toy of FLUX.2 klein: images, batches, and identity files that contain photos."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tenth.cli.main import main
from tenth.core.files.png_metadata import read_sample
from tenth.core.files.reading import sha256_of
from tenth.evaluation.image_set import load_image
from tenth.methods.identity_file import load_identity, read_identity_metadata
from tenth.methods.people.folder import PeopleFolder
from toy_families import toy_family

Output = pytest.CaptureFixture[str]
METHOD = ["--method", "photos-in-context"]
DRAWING = ["--prompt", "a photo of a person", "-n", "1"]

pytestmark = [pytest.mark.usefixtures("me_and_another"), pytest.mark.slow]


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return ["--model", str(toy_family("flux2-klein", tmp_path_factory.mktemp("klein") / "toy"))]


def digests(*folders: str) -> set[str]:
    return {sha256_of(path) for folder in folders for path in Path(folder).iterdir()}


def test_images_are_drawn_and_say_which_photos(klein: list[str], face_photos: list[Path], capsys: Output) -> None:
    sources = [str(path) for path in face_photos[:6]]
    assert main(["generate", *sources, *klein, *METHOD, *DRAWING, "--seed", "4", "-o", "out", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {"images": ["out/0000.png"]}
    assert "4 photos of 6 in context: " in said.err
    assert "not in context, as others show the person better, or differently: " in said.err
    metadata, record = read_sample("out/0000.png"), json.loads(Path("out/run.json").read_text())
    assert metadata["method"] == "photos-in-context"
    assert len(metadata["photos"]) == 4
    assert set(metadata["photos"]) < {sha256_of(path) for path in face_photos[:6]}
    assert record["settings"]["photos"] == metadata["photos"]

    # The same again, and again by the PNG: of these photos, and of others.
    before = Path("out/0000.png").read_bytes()
    assert main(["generate", *sources, *klein, *METHOD, *DRAWING, "--seed", "4", "-o", "out"]) == 0
    assert Path("out/0000.png").read_bytes() == before
    assert main(["generate", *sources, *klein, "--settings-from", "out/0000.png", "-n", "1", "-o", "again"]) == 0
    assert Path("again/0000.png").read_bytes() == before
    capsys.readouterr()
    assert main(["generate", "me", *klein, "--settings-from", "out/0000.png", "-n", "1", "-o", "others"]) == 0
    assert "0000.png was made of other photos in context: the images will be others" in capsys.readouterr().err


def test_of_candidates_the_best_are_kept(klein: list[str], capsys: Output) -> None:
    assert main(["generate", "me", *klein, *METHOD, *DRAWING, "--candidates", "2", "-o", "out"]) == 0
    assert "kept 1 of 2 candidates" in capsys.readouterr().err


def test_weights_choose_the_photos(klein: list[str], capsys: Output) -> None:
    left_out = min(Path("me").iterdir())
    assert main(["generate", "me", *klein, *METHOD, *DRAWING, "--photo-weight", f"{left_out.name}=0", "-o", "out"]) == 0
    assert f"not in context, as its weight is 0: {left_out.name}" in capsys.readouterr().err
    assert set(read_sample("out/0000.png")["photos"]) == digests("me") - {sha256_of(left_out)}


def test_a_unet_is_refused_in_one_line(toy_folder: Path, capsys: Output) -> None:
    assert main(["generate", "me", "--model", str(toy_folder), *METHOD, *DRAWING, "-o", "out"]) == 1
    said = capsys.readouterr().err
    assert "takes no photos in context" in said
    assert "flux2-klein" in said
    assert not Path("out").exists()


def test_a_file_with_photos_is_written_only_where_it_is_asked_for(klein: list[str], capsys: Output) -> None:
    assert main(["identity", "me", *klein, *METHOD, "-o", "me.safetensors"]) == 1
    said = capsys.readouterr()
    assert "an identity of photos-in-context contains the photos that it is made of" in said.err
    assert "Add --with-photos" in said.err
    assert not Path("me.safetensors").exists()
    assert main(["identity", "me", *klein, *METHOD, "-o", "me.safetensors", "--with-photos", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["weights"].values()) == pytest.approx([1 / 3] * 3)
    assert read_identity_metadata("me.safetensors").contains_photos
    assert Path("me.safetensors").stat().st_mode & 0o777 == 0o600

    # Who reads it is told, and draws what the photos draw.
    assert main(["generate", "me.safetensors", *klein, *DRAWING, "-o", "by-file"]) == 0
    assert "me.safetensors contains photos of the person" in capsys.readouterr().err
    assert main(["generate", "me", *klein, *METHOD, *DRAWING, "-o", "by-photos"]) == 0
    assert Path("by-file/0000.png").read_bytes() == Path("by-photos/0000.png").read_bytes()
    for target in ("lora.safetensors", "model", "comfy.ipadpt"):
        capsys.readouterr()
        assert main(["export", "me.safetensors", *klein, "-o", target]) == 1
        assert "me.safetensors contains photos of the person" in capsys.readouterr().err
        assert not Path(target).exists()


def test_the_option_changes_nothing_of_a_method_without_photos(toy_folder: Path) -> None:
    for number, more in enumerate(([], ["--with-photos"])):
        assert main(["identity", "me", "--model", str(toy_folder), *more, "-o", f"{number}.safetensors"]) == 0
    assert Path("0.safetensors").read_bytes() == Path("1.safetensors").read_bytes()
    assert not read_identity_metadata("0.safetensors").contains_photos


def test_whoever_is_saved_has_the_photos_and_is_forgotten_whole(klein: list[str], capsys: Output) -> None:
    assert main(["identity", "me", *klein, *METHOD, "--name", "anna", "--consent", "self"]) == 0
    path = PeopleFolder().identity("anna", "photos-in-context")
    assert path is not None
    assert load_identity(path).context
    assert main(["identity", "me", *klein, *METHOD, "-o", "shared/me.safetensors", "--with-photos"]) == 0
    capsys.readouterr()
    assert main(["generate", "anna", *klein, *DRAWING, "-o", "out"]) == 0
    assert "contains photos" not in capsys.readouterr().err  # which are kept beside it anyway
    assert set(read_sample("out/0000.png")["photos"]) == digests("me")
    assert main(["forget", "anna", "--in", "shared", "--in", "out", "--yes"]) == 0
    assert not path.exists()
    assert not Path("shared/me.safetensors").exists()
    assert not Path("out/0000.png").exists()


def test_a_batch_draws_what_generate_draws(klein: list[str], capsys: Output) -> None:
    row = {"person": "me", "prompt": "a photo of a person", "seed": 0, "method": "photos-in-context", "model": klein[1]}
    Path("plan.jsonl").write_text(json.dumps(row) + "\n")
    assert main(["batch", "plan.jsonl", "-o", "batch"]) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.startswith("1 image in 1 shard")
    assert main(["generate", "me", *klein, *METHOD, *DRAWING, "-o", "out"]) == 0
    with tarfile.open("batch/shards/00000.tar") as shard:
        (picture,) = [member for member in shard.getmembers() if member.name.endswith(".png")]
        content = shard.extractfile(picture)
        assert content is not None
        Path("drawn.png").write_bytes(content.read())
    assert np.array_equal(load_image("drawn.png"), load_image("out/0000.png"))
    assert read_sample("drawn.png")["photos"] == read_sample("out/0000.png")["photos"]
