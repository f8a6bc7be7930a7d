"""The command line: exit codes, what goes to stdout and what to stderr, and that nothing of the user's is lost."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tenth.cli.main import main
from tenth.evaluation.registry import METRICS
from tenth.methods.registry import COMBINATIONS, METHODS
from tenth.models.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a photo of a person"
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "store"))
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path_factory.getbasetemp() / "no-models"))


@pytest.fixture
def flat_photos(tmp_path: Path) -> Path:
    """A folder with a picture of nobody and a hidden file."""
    folder = tmp_path / "flat"
    folder.mkdir()
    Image.new("RGB", (64, 64), "grey").save(folder / "a.png")
    (folder / ".hidden").write_text("")
    return folder


def one_complaint(output: Output) -> str:
    """The one line on stderr of exit code 1; nothing is on stdout."""
    said = output.readouterr()
    assert said.out == ""
    assert said.err.startswith("tenth: ")
    assert said.err.count("\n") == 1
    return said.err


# Exit code 2: wrong usage, known before anything heavy is loaded


@pytest.mark.parametrize(
    "words",
    [
        ["dream"],
        ["generate", "me", "-o", "out"],
        *(
            ["generate", "me", "--prompt", "a", "-o", "out", *more.split()]
            for more in ("-n 0", "-n 10001", "-n two", "--seed -1")
        ),
        *(
            ["generate", "me", "--prompt", "a", "-o", "out", *more.split()]
            for more in ("--steps 0", "--steps -3", "--steps 1.5")
        ),
        *(
            ["generate", "me", "--prompt", "a", "-o", "out", *more.split()]
            for more in ("--guidance-scale 0.5", "--adapter-scale 3", "--adapter-scale nan")
        ),
        ["generate", "me.safetensors", "--prompt", "a", "-o", "out", "--method", "ip-adapter"],
        ["identity", "me", "-o", "me.txt"],
        ["evaluate", "images"],
        ["data"],
        ["data", "celeba", "x", "-o", "y"],
    ],
    ids=" ".join,
)
def test_wrong_usage(words: list[str], capsys: Output) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"tenth[a-z ]*: .*[.?] `tenth[a-z ]* --help` says more\.\n", said.err)


# Exit code 1: something about the input, in one line


@pytest.mark.parametrize("command", ["photos", "identity", "generate"])
def test_a_missing_folder(command: str, tmp_path: Path, capsys: Output) -> None:
    more = {"photos": [], "identity": ["-o", str(tmp_path / "me.safetensors")]}
    generating = ["--prompt", PROMPT, "-o", str(tmp_path / "out")]
    assert main([command, str(tmp_path / "nobody"), *more.get(command, generating)]) == 1
    assert "does not exist" in one_complaint(capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_method_is_distinguished_from_the_known_ones(flat_photos: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["generate", str(flat_photos), "--prompt", PROMPT, "--method", "dreambath", "-o", str(tmp_path / "out")]) == 1
    assert "'dreambath' is not a method; choose one of: ip-adapter" in one_complaint(capsys)


def test_no_usable_photo(flat_photos: Path, tmp_path: Path, capsys: Output) -> None:
    assert main(["generate", str(flat_photos), "--prompt", PROMPT, "-o", str(tmp_path / "out")]) == 1
    assert "no usable photo" in one_complaint(capsys)


def test_a_file_name_cannot_break_the_line(tmp_path: Path, capsys: Output) -> None:
    assert main(["photos", str(tmp_path / "a\nb\x1b[2J")]) == 1
    assert "\x1b" not in one_complaint(capsys)


def test_evaluate_needs_images_and_the_right_inception_file(tmp_path: Path, flat_photos: Path, capsys: Output) -> None:
    assert main(["evaluate", str(tmp_path / "gone"), "--held-out", str(flat_photos)]) == 1
    assert "does not exist" in one_complaint(capsys)
    assert main(["evaluate", str(flat_photos), "--held-out", str(flat_photos)]) == 1
    assert "has 1 image (PNG, JPEG or WebP); at least 2 are needed" in one_complaint(capsys)
    sides = [str(flat_photos), "--held-out", str(flat_photos)]
    assert main(["evaluate", *sides, "--inception", str(flat_photos / "a.png")]) == 1
    assert "sha256 6726825d0af5" in one_complaint(capsys)


# Exit codes 70 and 130, and a reader who left


def test_a_fault_of_ours_says_how_to_report_it(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("tenth.data.photo_folder.inspect_photos", lambda _: 1 / 0)
    assert main(["photos", "."]) == 70
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "To report it" in said


@pytest.mark.parametrize("said", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_too_little_memory_is_no_fault_of_ours(said: Exception, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    def fail(_: Any) -> None:
        raise said

    monkeypatch.setattr("tenth.data.photo_folder.inspect_photos", fail)
    assert main(["photos", "."]) == 1
    assert "more memory is needed than there is" in one_complaint(capsys)


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["HF_ENDPOINT=http://localhost:secret@127.0.0.1:99999", "HF_HUB_DOWNLOAD_TIMEOUT=secret"])
def test_an_environment_that_a_library_cannot_read_is_said(variable: str) -> None:
    name, _, value = variable.partition("=")
    command = [sys.executable, "-m", "tenth.cli.main", "models", "download", "owner/name"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "0", name: value}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "secret" not in done.stderr
    assert done.stderr.startswith("tenth: huggingface_hub cannot read the environment; ")
    assert done.stderr.count("\n") == 1


def test_a_long_error_is_shortened_in_its_middle(capsys: Output) -> None:
    assert main(["photos", "/".join("x" * 3_000)]) == 1
    said = one_complaint(capsys)
    assert len(said) < 2_100
    assert said.startswith("tenth: x/x/x")
    assert said.endswith("Give photos of one person, or a folder of them.\n")


@pytest.mark.parametrize(
    "line",
    [
        "photos ''",
        "generate '' --prompt x -o new",
        "generate me --prompt x -o ''",
        "identity me -o x.safetensors --model ''",
        "identity me -o x.safetensors --method ''",
        "evaluate me --held-out ''",
        "models download ''",
        "demo --photos ''",
    ],
)
def test_nothing_where_a_path_or_a_name_belongs_is_wrong_usage(line: str, capsys: Output) -> None:
    """As an unset variable of a shell leaves it: as a path it would be the folder that one is in."""
    assert main(shlex.split(line)) == 2
    assert "'' is given; leave it out, or say what" in capsys.readouterr().err


def test_stopped_by_the_user(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    def stop(_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenth.data.photo_folder.inspect_photos", stop)
    assert main(["photos", "."]) == 130
    assert capsys.readouterr().err == "\ntenth: stopped.\n"


def test_a_reader_who_left_is_no_error() -> None:
    command = [sys.executable, "-m", "tenth.cli.main", "people", "--json"]
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


# photos, tables, doctor


def test_photos_says_why(flat_photos: Path, capsys: Output) -> None:
    assert main(["photos", str(flat_photos)]) == 1
    said = capsys.readouterr()
    assert "no-face" in said.out
    assert "0 of 2 accepted" in said.out
    assert said.err == ""


def test_photos_as_json(flat_photos: Path, capsys: Output) -> None:
    assert main(["photos", str(flat_photos), "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)["photos"]
    assert [(row["file"], row["accepted"], row["code"]) for row in rows] == [
        (".hidden", False, "hidden"),
        ("a.png", False, "no-face"),
    ]
    assert all(set(row) == {"file", "accepted", "code", "reason", "warnings"} for row in rows)


@pytest.mark.parametrize(
    ("kind", "table"), [("methods", {**METHODS, **COMBINATIONS}), ("metrics", METRICS), ("models", MODELS)]
)
def test_tables_have_every_name(kind: str, table: dict[str, Any], capsys: Output) -> None:
    assert main([kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(table)
    assert main([kind, "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)[kind]] == list(table)


def test_evaluate_says_what_it_could_not_measure(flat_photos: Path, capsys: Output) -> None:
    Image.new("RGB", (48, 64), "white").save(flat_photos / "b.png")
    sides = ["evaluate", str(flat_photos), "--held-out", str(flat_photos)]
    assert main([*sides, "--json"]) == 0
    said = capsys.readouterr()
    metrics = json.loads(said.out)["metrics"]
    needing_more = {name for name, row in METRICS.items() if {"prompts", "threshold"} & set(row.needs)}
    assert set(metrics) == set(METRICS) - needing_more
    assert metrics["copy-paste-index"]["unavailable"].startswith("needs the photos that the method was given")
    assert all(set(row) == {"value", "low", "high", "n", "higher_is_better", "unavailable"} for row in metrics.values())
    assert metrics["face-detection-rate"]["value"] == 0
    assert metrics["fid"]["unavailable"].startswith("needs the Inception file")
    assert "images of 2 sizes" in said.err
    assert main(sides) == 0
    known = [name for name, row in metrics.items() if row["value"] is not None]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[: len(known)]] == known
    without = [name for line in lines[len(known) :] for name in line.partition(": ")[0].split(", ")]
    assert sorted(without) == sorted(set(metrics) - set(known))


@pytest.mark.parametrize("fine", [True, False])
def test_the_doctors_verdict_is_the_exit_code(fine: bool, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    from tenth.cli.commands.doctor import CheckResult

    monkeypatch.setattr("tenth.cli.commands.doctor.run_checks", lambda: [CheckResult("torch", fine, "2", required=True)])
    assert main(["doctor", "--json"]) == (0 if fine else 1)
    assert json.loads(capsys.readouterr().out)["works"] is fine
