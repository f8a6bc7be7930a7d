"""The help of the command line: current, the same in every terminal, and what a shell completes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tenth.cli.app import help_page
from tenth.cli.completion import method_names, model_names
from tenth.cli.examples import EXAMPLES
from tenth.cli.main import main
from tenth.methods.registry import COMBINATIONS, METHODS
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.models.registry import MODELS
from tenth.sampling.config import SamplingConfig

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "a photo of a person"
Output = pytest.CaptureFixture[str]


def test_the_manual_is_current() -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == help_page(), "write it anew: python -m tenth.cli.app > docs/cli.md"


def test_the_manual_is_the_same_in_every_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = []
    for columns in ("40", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        pages.append(help_page())
    assert pages[0] == pages[1]


def completions(shell: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> list[str]:
    """What a shell is offered to complete the last word of a line with."""
    monkeypatch.setenv("_TENTH_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", line)
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit, match="0"):
        main([])
    answer = capsys.readouterr().out
    return re.findall(r'"([^"]+)"', answer) if shell == "zsh" else answer.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tenth generate --scheduler e", ["euler", "euler-a"]),
        ("tenth generate --method ip-adapter-a", ["ip-adapter-avg", "ip-adapter-attention"]),
        ("tenth identity me --model p", ["pocket"]),
        ("tenth generate --fast l", ["lcm"]),
    ],
)
def test_a_shell_completes_values(
    shell: str, line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert completions(shell, line, monkeypatch, capsys) == expected


def test_a_shell_completes_commands(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    assert completions("bash", "tenth gen", monkeypatch, capsys) == ["generate"]


def test_what_is_completed_is_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENTH_MODELS", str(tmp_path))
    assert method_names() == [*METHODS, *COMBINATIONS]
    assert model_names() == list(MODELS)
    (tmp_path / "models.lock").write_text("damaged")
    assert model_names() == list(MODELS)


def test_completing_imports_no_large_library() -> None:
    program = (
        "import sys; from tenth.cli.app import build_command; from tenth.cli.completion import model_names\n"
        "build_command(); model_names(); print(sorted({'torch', 'diffusers', 'transformers', 'dlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str, monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    monkeypatch.setattr("typer.completion._get_shell_name", lambda: shell)
    with pytest.raises(SystemExit):
        main(["--show-completion"])
    script = capsys.readouterr().out
    assert f"complete_{shell}" in script
    assert "tenth" in script


def test_the_help_ends_with_its_examples(capsys: Output) -> None:
    for command, examples in EXAMPLES.items():
        with suppress(SystemExit):
            main([command, "--help"])
        *_, last = capsys.readouterr().out.rstrip().partition("Examples:\n")
        assert [line.strip() for line in last.splitlines()] == list(examples)
    assert 3 <= len(EXAMPLES["generate"]) <= 6


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["generat"], "'generate'"),
        (["models", "downlod", "sdxl"], "'download'"),
        (["generate", "me", "--promt", "x", "-o", "new"], "--prompt"),
        (["generate", "me", "--prompt", "x", "-o", "new", "--scheduler", "eulr"], "euler"),
        (["generate", "me", "--prompt", "x", "-o", "new", "--model", "sd15", "--fast", "lmc"], "lcm"),
        (["generate", "me", "--prompt", "x", "-o", "new", "--precision", "bf61"], "bf16"),
        (["generate", "me", "--prompt", "x", "-o", "new", "--device", "cdua"], "cuda"),
        (["generate", "me", "--prompt", "x", "-o", "new", "--method", "ip-adapter-consensu"], "ip-adapter-consensus"),
        (["generate", "me", "--prompt", "x", "-o", "new", "--method", "dreamboth+ip-adapter"], "dreambooth"),
        (["generate", "me", "--prompt", "x", "-o", "new", "--model", "sdx"], "sdxl"),
        (["models", "download", "sd1"], "sd15"),
        (["models", "download", "sd15+ip-adapter-plus_sd1"], "ip-adapter-plus_sd15"),
        (["train", "stage.toml", "-o", "new"], "adapter"),
        (["train", "key.toml", "-o", "new"], "model"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value[-2:]),
)
def test_what_was_meant_is_named(
    words: list[str], meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        (tmp_path / "me").mkdir(exist_ok=True)
        shutil.copy(sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))[number], tmp_path / "me")
    Path("stage.toml").write_text('stage = "adaptr"\n')
    Path("key.toml").write_text('stage = "adapter"\nmodl = "pocket"\n')
    assert main(words) in (1, 2)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"Did you mean {meant}?" in said
    assert not Path("new").exists()


def test_a_command_that_is_nearly_one_is_named(capsys: Output) -> None:
    assert main(["generat"]) == 2
    assert capsys.readouterr().err == ("tenth: No such command 'generat'. Did you mean 'generate'? `tenth --help` says more.\n")


def test_help_states_the_defaults_that_count() -> None:
    page, default = " ".join(help_page().split()), SamplingConfig()
    for text in (
        "denoising [default: the model's, 4 of pocket, 25 of others]",
        "1 or more [default: the model's, 1 of pocket]",
        f"[default: {default.ip_adapter_scale:g}]",
    ):
        assert text in page


def test_without_a_command_the_help_is_said_and_the_usage_is_wrong(capsys: Output) -> None:
    assert main([]) == 2
    assert "Usage: tenth" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: Output) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "tenth 0.1.0\n"
