"""What the README, the first ten minutes and the help have their reader type does what they say, word for word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents import (
    NOT_RUN,
    READ_BY_ALL,
    ROOT,
    Block,
    blocks_of,
    blocks_of_docstrings,
    lines_of,
    lines_that_run,
    skip_reason,
    write_inputs,
    write_toy_sd15,
)
from fresh import Fresh, fresh_processes
from parsed_commands import parse
from tenth.cli.app import EPILOG
from toy_hub import Hub, publish, run_hub

OTHERS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md") if path.name != "start.md")
SKIPPED = {"README.md": 10, "docs/start.md": 5}  # lines that are not run: NOT_RUN says why


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Processes that find a hub on this machine, with a toy of Stable Diffusion 1.5."""
    here = {name: str(tmp_path_factory.mktemp(name)) for name in ("store", "models", "cache", "said")}
    with run_hub(Hub()) as hub:
        publish(hub, "sd15", write_toy_sd15(tmp_path_factory.mktemp("toy") / "model"))
        environment = {"TENTH_CACHE_DIR": here["store"], "TENTH_MODELS": here["models"], "HF_HUB_CACHE": here["cache"]}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
        with fresh_processes(Path(here["said"]), **environment) as fresh:
            yield fresh


def run(blocks: list[Block], fresh: Fresh, folder: Path) -> tuple[list[str], list[str]]:
    """(lines that failed and what they said, lines that were not run and why)."""
    failed, skipped = [], []
    for block in blocks:
        lines = ["python"] if block.language == "python" else block.lines
        for line in lines:
            if reason := skip_reason(line):
                skipped.append(f"{block.location}: {line}: {reason}")
                continue
            done = fresh.python(block.text, folder) if block.language == "python" else fresh.line(line, folder)
            if done.code != 0 or "Traceback" in done.err:
                failed.append(f"{block.location}: {line}: exit code {done.code}: {done.err[-1000:]}")
    return failed, skipped


@pytest.mark.parametrize("name", READ_BY_ALL)
def test_every_block_runs(name: str, fresh: Fresh, tmp_path: Path) -> None:
    blocks = blocks_of(ROOT / name)
    assert {block.language for block in blocks} <= {"", "python"}
    assert all(line.startswith("tenth ") or skip_reason(line) for block in blocks if not block.language for line in block.lines)
    write_inputs(tmp_path)
    failed, skipped = run(blocks, fresh, tmp_path)
    assert not failed, "\n".join(failed)
    print("\n".join(skipped))
    assert len(skipped) == SKIPPED[name], "\n".join(skipped)


def test_the_examples_of_the_help_and_of_docstrings_run(fresh: Fresh, tmp_path: Path) -> None:
    write_inputs(tmp_path)
    examples = re.findall(r"^ +(tenth .+)$", EPILOG, re.MULTILINE)
    assert len(examples) == 3
    others = [line for line in examples if line not in lines_that_run()]  # those in the documents are run there
    assert run([Block("the help", "", "\n".join(others)), *blocks_of_docstrings()], fresh, tmp_path) == ([], [])


def test_what_is_not_run_says_so_to_its_reader() -> None:
    """A line that takes hours, or wants what the reader may not have, has a comment, which says it."""
    for name in READ_BY_ALL:
        for block in blocks_of(ROOT / name):
            for line in block.text.splitlines():
                if line.startswith("tenth") and skip_reason(line):
                    assert re.search(r"#.*(LFW|hours|minutes|\d\d|a day)", line), f"{block.location}: {line}"
    assert all(any(skip_reason(line) == reason for line in lines_of(*READ_BY_ALL)) for reason in NOT_RUN.values())


@pytest.mark.parametrize("name", [*READ_BY_ALL, *OTHERS])
def test_every_command_of_a_document_is_one(name: str) -> None:
    """Also those that are not run: the parser takes them, and the recipes that they name are there."""
    if name == "docs/cli.md":
        assert (ROOT / name).is_file()  # made of the parser, by a test of its own
        return
    for block in blocks_of(ROOT / name):
        for line in block.lines if not block.language else ():
            if line.startswith("tenth ") and "..." not in line:
                assert parse(shlex.split(line)[1:]), f"{block.location}: {line}"
                for recipe in re.findall(r"recipes/[\w-]+\.toml", line):
                    assert (ROOT / recipe).is_file(), f"{block.location}: {line}"


@pytest.mark.parametrize("line", ["tenth doctor", 'tenth generate me/ --prompt "a photo of a person" -n 1 --steps 1 -o out'])
def test_a_command_in_a_process_from_the_start(line: str, tmp_path: Path) -> None:
    """Not a fork: nothing at all is loaded."""
    write_inputs(tmp_path)
    command = [sys.executable, "-m", "tenth.cli.main", *shlex.split(line)[1:]]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "TENTH_CACHE_DIR": str(tmp_path / "store"),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
