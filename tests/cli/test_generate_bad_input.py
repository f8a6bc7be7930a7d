"""`tenth generate` with what nobody can generate from: one clear line, exit 1 or 2, nothing half-written, nothing lost."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tenth.cli.main import main
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

Output = pytest.CaptureFixture[str]
PROMPTED, NEW = '--prompt "a photo of a person"', "-o new"
# What is typed after `tenth generate`, the exit code, and what the line says.
CASES = (
    # Who
    (f"none {PROMPTED} {NEW}", 1, "none"),
    (f"empty {PROMPTED} {NEW}", 1, "no usable photo (the folder is empty)"),
    (f"texts {PROMPTED} {NEW}", 1, "no usable photo (letter.txt"),
    (f"broken {PROMPTED} {NEW}", 1, "no usable photo (cut.png"),
    (f"faceless {PROMPTED} {NEW}", 1, "no face was found"),
    (f"letter.txt {PROMPTED} {NEW}", 1, "letter.txt"),
    (f"me/1.png/x {PROMPTED} {NEW}", 1, "a photo or a folder of photos is needed"),
    (f"none.safetensors {PROMPTED} {NEW}", 1, "an identity that `tenth identity` wrote is needed"),
    (f"text.safetensors {PROMPTED} {NEW}", 1, "a whole identity file of this version is needed"),
    (f"'' {PROMPTED} {NEW}", 2, "leave it out, or say what"),
    # What they show, how many
    (f"me {NEW}", 2, "--prompt"),
    (f"me --promt x {NEW}", 2, "Did you mean --prompt?"),
    (f"me {PROMPTED} -n 0 {NEW}", 2, "a whole number from 1 to 10000"),
    (f"me {PROMPTED} -n 10001 {NEW}", 2, "a whole number from 1 to 10000"),
    (f"me {PROMPTED} -n many {NEW}", 2, "'many' is not a whole number"),
    (f"me {PROMPTED} --seed -1 {NEW}", 2, "'-1' is not a whole number"),
    (f"me {PROMPTED} --seed 1.5 {NEW}", 2, "'1.5' is not a whole number"),
    (f"me {PROMPTED} --seed {2**64} {NEW}", 2, "is not a whole number"),
    (f"me {PROMPTED} {NEW} --settings-from none.png", 1, "none.png"),
    (f"me {NEW} --settings-from plain.png", 1, "plain.png"),
    (f"me {NEW} --settings-from letter.txt", 1, "letter.txt"),
    # The model and the method
    (f"me {PROMPTED} --method ip-adapter-consensu {NEW}", 1, "Did you mean ip-adapter-consensus?"),
    (f"me {PROMPTED} --method ip-adapter+ip-adapter {NEW}", 1, "one that does not are needed"),
    (f"me {PROMPTED} --method none.toml {NEW}", 1, "none.toml"),
    (f"me {PROMPTED} --model sdx {NEW}", 1, "Did you mean sdxl?"),
    (f"me {PROMPTED} --model sdxl {NEW}", 1, "tenth models download sdxl"),
    (f"me {PROMPTED} --model empty {NEW}", 1, "empty"),
    (f"me {PROMPTED} --device gpu {NEW}", 2, "'gpu' is not one of cpu, cuda"),
    (f"me {PROMPTED} --backend tensorrt {NEW}", 2, "'tensorrt' is not one of torch, openvino"),
    (f"me {PROMPTED} --adapter letter.txt {NEW}", 1, "letter.txt"),
    (f"me {PROMPTED} --lora letter.txt {NEW}", 1, "a LoRA is for Stable Diffusion"),
    # How they are sampled
    (f"me {PROMPTED} --steps 0 {NEW}", 2, "'0' is not a whole number"),
    (f"me {PROMPTED} --guidance-scale 0.5 {NEW}", 2, "'0.5' is not a number"),
    (f"me {PROMPTED} --guidance-scale nan {NEW}", 2, "'nan' is not a number"),
    (f"me {PROMPTED} --adapter-scale -1 {NEW}", 2, "'-1' is not a number"),
    (f"me {PROMPTED} --scheduler eulr {NEW}", 2, "Did you mean euler?"),
    (f"me {PROMPTED} --scheduler euler --fast lcm --model sd15 {NEW}", 2, "leave out --scheduler"),
    (f"me {PROMPTED} --fast lcm {NEW}", 2, "it is for distilled models"),
    (f"me {PROMPTED} --guidance-interval 1 0 {NEW}", 1, "guidance_interval"),
    # Their size
    (f"me {PROMPTED} --size 100 {NEW}", 2, "multiples of 8"),
    (f"me {PROMPTED} --size 4096 {NEW}", 1, "at most 4 times is possible"),
    (f"me {PROMPTED} --size 512 --strength 0.4 {NEW}", 1, "Leave the strength out"),
    (f"me {PROMPTED} --strength 0.4 {NEW}", 1, "Give a size too"),
    # Where to
    (f"me {PROMPTED} -o me", 1, "an empty or new folder is needed"),
    (f"me {PROMPTED} -o letter.txt", 1, "letter.txt is a file"),
    (f"me {PROMPTED} -o letter.txt/new", 1, "letter.txt is a file"),
    (f"me {PROMPTED} -o locked/new", 1, "cannot be written (Permission denied)"),
    (f"me {PROMPTED} -o new -o other", 2, "it is given twice"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the cases name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path / "no-models"))
    for name in ("me", "empty", "texts", "broken", "faceless", "locked"):
        (tmp_path / name).mkdir()
    photo = EXAMPLE_PHOTOS_DIR / "01.png"
    shutil.copy(photo, tmp_path / "me/1.png")
    (tmp_path / "broken/cut.png").write_bytes(photo.read_bytes()[:999])
    for path in ("texts/letter.txt", "letter.txt", "text.safetensors"):
        (tmp_path / path).write_text("dear")
    for path in ("faceless/wall.png", "plain.png"):
        Image.new("RGB", (128, 128), (120, 130, 140)).save(tmp_path / path)
    return tmp_path


def everything(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def refusing(folder: Path, make: Callable[..., None]) -> Callable[..., None]:
    """`mkdir` where nobody may write below a folder: permissions do not stop who is root, as tests may be."""

    def refuse(path: Path, *given: object, **more: object) -> None:
        if folder in path.absolute().parents:
            raise PermissionError(13, os.strerror(13), str(path))
        make(path, *given, **more)

    return refuse


def test_there_are_forty_cases() -> None:
    assert len({line for line, _, _ in CASES}) == len(CASES) >= 40


@pytest.mark.slow
@pytest.mark.parametrize(("line", "code", "said"), CASES, ids=[line for line, _, _ in CASES])
def test_one_clear_line_and_nothing_half_written(
    line: str, code: int, said: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(Path, "mkdir", refusing(here / "locked", Path.mkdir))
    before = everything(here)
    assert main(["generate", *shlex.split(line)]) == code
    output = capsys.readouterr()
    assert output.out == ""
    complaints = [each for each in output.err.splitlines() if each.startswith("tenth")]
    assert len(complaints) == 1, output.err
    assert output.err.splitlines()[-1] == complaints[0]
    assert said in complaints[0]
    assert complaints[0].endswith(".")
    assert everything(here) == before
