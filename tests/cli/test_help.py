"""The help of the command line: current, the same in every terminal, and what a shell completes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenth.cli.app import help_page
from tenth.cli.main import main
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


@pytest.mark.parametrize(
    ("line", "expected"), [("tenth gen", ["generate"]), ("tenth generate --scheduler e", ["euler", "euler-a"])]
)
def test_a_shell_completes_commands_and_values(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("_TENTH_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit, match="0"):
        main([])
    assert capsys.readouterr().out.split() == expected


def test_a_command_that_is_nearly_one_is_named(capsys: Output) -> None:
    assert main(["generat"]) == 2
    assert capsys.readouterr().err == ("tenth: No such command 'generat'. Did you mean 'generate'? `tenth --help` says more.\n")


def test_help_states_the_defaults_that_count() -> None:
    page, default = help_page(), SamplingConfig()
    for text in (
        "denoising [default: the model's, 8 of pocket, 25 of others]",
        f"[default: {default.guidance_scale:g}]",
        f"[default: {default.ip_adapter_scale:g}]",
    ):
        assert text in page


def test_without_a_command_the_help_is_said_and_the_usage_is_wrong(capsys: Output) -> None:
    assert main([]) == 2
    assert "Usage: tenth" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: Output) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "tenth 0.1.0\n"
