"""The documents are true: their code runs word for word, their tables are the records', what they name is there."""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from documents import (
    NOT_RUN,
    ROOT,
    RUN,
    TABLE,
    Block,
    blocks_of,
    blocks_of_docstrings,
    blocks_that_run,
    shell_lines,
    skip_reason,
    with_tables,
    write_inputs,
    write_toy_sd15,
)
from fresh import Fresh
from parsed_commands import parse
from tenth.cli.app import EPILOG
from tenth.cli.examples import EXAMPLES
from tenth.core.config import from_table
from tenth.evaluation.extractors.recognizer_config import RecognizerConfig
from tenth.experiments.recipe import ExperimentRecipe
from tenth.training.adapter.trainer import AdapterRecipe
from toy_hub import Hub, publish, run_hub

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md"))
)
HISTORY = {"CHANGELOG.md", "docs/log.md", *(name for name in DOCUMENTS if name.startswith("docs/decisions/"))}
CURRENT = [name for name in DOCUMENTS if name not in HISTORY] + ["docs/decisions/0008-layout.md"]
SKIPPED = {
    "README.md": 2,
    "docs/start.md": 3,
    "docs/generate.md": 0,
    "docs/batch.md": 0,
    "docs/benchmark.md": 0,
    "docs/marks.md": 0,
    "docs/models.md": 0,
    "docs/people.md": 0,
    "docs/train.md": 6,
}  # lines not run: NOT_RUN says why
README_LINES = 90
TRIED: set[str] = set()  # commands, and names of the package, in this process


@pytest.fixture(scope="module")
def fresh(fresh: Fresh, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """Processes that find a hub on this machine, with a toy of Stable Diffusion 1.5."""
    here = {name: str(tmp_path_factory.mktemp(name)) for name in ("store", "models", "cache")}
    with run_hub(Hub()) as hub:
        publish(hub, "sd15", write_toy_sd15(tmp_path_factory.mktemp("toy") / "model"))
        environment = {"TENTH_CACHE_DIR": here["store"], "TENTH_MODELS": here["models"], "HF_HUB_CACHE": here["cache"]}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
        yield fresh.within(**environment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who types all documents there, one after another: what is there already is not made again."""
    folder = tmp_path_factory.mktemp("reader")
    write_inputs(folder)
    return folder


def run(blocks: list[Block], fresh: Fresh, folder: Path) -> tuple[list[str], list[str]]:
    """(lines that failed and what they said, lines that were not run and why).

    Where a command is tried the first time, or a name of the package, its process has loaded nothing of tenth.
    """
    failed, skipped = [], []
    for block in blocks:
        lines = ["python"] if block.language == "python" else block.lines
        for line in lines:
            if reason := skip_reason(line):
                skipped.append(f"{block.location}: {line}: {reason}")
                continue
            if block.language == "python":
                tried = names_of_tenth(block.text)
                done = (fresh.loaded if tried <= TRIED else fresh).python(block.text, folder)
            else:
                tried = {parse(shlex.split(line, comments=True)[1:])[0]}
                done = (fresh.loaded if tried <= TRIED else fresh).line(line, folder)
            TRIED.update(tried)
            if done.code != 0 or "Traceback" in done.err:
                failed.append(f"{block.location}: {line}: exit code {done.code}: {done.err[-1000:]}")
    return failed, skipped


def names_of_tenth(program: str) -> set[str]:
    """What a program imports of the package, and what it uses of its face."""
    found = set()
    for node in ast.walk(ast.parse(program)):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "tenth":
            found.add(f"tenth.{node.attr}")
    return {name for name in found if name.partition(".")[0] == "tenth"}


@pytest.mark.slow
@pytest.mark.parametrize("name", RUN)
def test_every_block_runs(name: str, fresh: Fresh, folder: Path) -> None:
    blocks = blocks_of(name, RUN[name])
    assert {block.language for block in blocks} <= {"", "json", "python", "text", "toml"}
    code = [block for block in blocks if block.language in ("", "python")]
    assert code
    assert all(line.startswith("tenth ") or skip_reason(line) for line in shell_lines(code))
    failed, skipped = run(code, fresh, folder)
    assert not failed, "\n".join(failed)
    print("\n".join(skipped))
    assert len(skipped) == SKIPPED[name], "\n".join(skipped)


@pytest.mark.slow
def test_the_examples_of_the_help_and_of_docstrings_run(fresh: Fresh, folder: Path) -> None:
    examples = re.findall(r"^ +(tenth .+)$", EPILOG, re.MULTILINE)
    assert len(examples) == 3
    others = [line for line in examples if line not in shell_lines(blocks_that_run())]  # those in the documents are run there
    assert run([Block("the help", "", "\n".join(others)), *blocks_of_docstrings()], fresh, folder) == ([], [])


@pytest.mark.slow
def test_the_examples_of_each_commands_help_run(fresh: Fresh, tmp_path: Path) -> None:
    """One after another, as some read what others wrote."""
    write_inputs(tmp_path)
    lines = "\n".join(line for examples in EXAMPLES.values() for line in examples)
    assert run([Block("the help", "", lines)], fresh, tmp_path) == ([], [])


def test_what_is_not_run_says_so_to_its_reader() -> None:
    """A line that takes hours, or wants what the reader may not have, has a comment, which says it."""
    for block in blocks_that_run():
        for line in block.text.splitlines():
            if line.startswith("tenth") and skip_reason(line):
                assert re.search(r"#.*(LFW|hours|minutes|\d\d|once more)", line), f"{block.location}: {line}"
    lines = shell_lines(blocks_that_run())
    assert all(any(skip_reason(line) == reason for line in lines) for reason in NOT_RUN.values())


@pytest.mark.parametrize("name", CURRENT)
def test_every_command_of_a_document_is_one(name: str) -> None:
    """Also those that are not run: the parser takes them, and the recipes that they name are there."""
    for block in blocks_of(name) if name != "docs/cli.md" else ():  # cli.md is made of the parser, by a test of its own
        for line in block.lines if not block.language else ():
            if line.startswith("tenth ") and "..." not in line:
                assert parse(shlex.split(line)[1:]), f"{block.location}: {line}"
    text = (ROOT / name).read_text(encoding="utf-8")
    missing = [recipe for recipe in re.findall(r"\brecipes/[\w-]+\.(?:toml|sh)", text) if not (ROOT / recipe).is_file()]
    assert missing == []


def test_the_recipes_of_the_documents_have_known_keys() -> None:
    data = {"people": "people.jsonl", "photos": "photos"}
    own_data, recipe, in_files = (tomllib.loads(block.text) for block in blocks_of("docs/train.md") if block.language == "toml")
    assert from_table(AdapterRecipe, own_data | recipe).references.p_impostor == 0.3
    assert from_table(AdapterRecipe, recipe | in_files).encoded == Path("data/encoded")
    sets, frontier = (tomllib.loads(block.text) for block in blocks_of("docs/experiments.md") if block.language == "toml")
    experiment = from_table(ExperimentRecipe, {"split": "validation", "data": data, **sets, **frontier})
    assert experiment.prompt_sets["attributes"].images == 20
    assert experiment.frontier is not None
    assert len(experiment.frontier.settings) == 6


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / path) if path else ROOT / name
        assert target.exists(), f"{name}: {link}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{name}: {link}"


def test_every_page_that_an_error_or_a_recipe_names_is_there() -> None:
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "recipes").iterdir(), ROOT / "Makefile"]
    named = {page for path in files for page in re.findall(r"docs/[\w/-]+\.md", path.read_text(encoding="utf-8"))}
    assert {"docs/data.md", "docs/recognizers.md"} <= named
    assert [page for page in sorted(named) if not (ROOT / page).is_file()] == []


def test_the_description_of_a_recognizer_is_one() -> None:
    (described,) = (tomllib.loads(block.text) for block in blocks_of("docs/recognizers.md") if block.language == "toml")
    assert from_table(RecognizerConfig, described).detector.type == "yunet"


@pytest.mark.parametrize("name", CURRENT)
def test_every_file_and_name_of_the_code_is_there(name: str) -> None:
    """Paths, and what is imported by name; but for the files that docs/extend.md adds."""
    text = re.sub(r"```.*?```|The file, `.*?`", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    for line in text.splitlines():
        for code in re.findall(r"`([^`\n]+)`", line):
            if re.fullmatch(r"(src|tests|docs|benchmarks|recipes|results|examples)/[\w./*-]*", code):
                assert any(ROOT.glob(code.rstrip("/"))), f"{name}: {code}"
            elif re.fullmatch(r"\w+(/\w+)*\.py", code):
                assert any(ROOT.glob(f"**/{code}")), f"{name}: {code}"
            elif match := re.fullmatch(r"(tenth(?:\.[a-z_]\w*)+?)(?:\.(\w+))?(?:\(.*\))?", code):
                module = match[1] if match[2] is None else f"{match[1]}.{match[2]}"
                assert _exists(module), f"{name}: {code}"


def _exists(dotted: str) -> bool:
    """Whether this is a module, or a name in one."""
    try:
        importlib.import_module(dotted)
    except ModuleNotFoundError:
        module, _, attribute = dotted.rpartition(".")
        return hasattr(importlib.import_module(module), attribute)
    return True


def test_the_map_names_what_is_in_its_files() -> None:
    """CONTRIBUTING's table of the five places: each name is defined in a file of its row."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| [\w ]+ \| `src/tenth/", line)]
    assert len(rows) == 5
    for row in rows:
        files = [code for code in re.findall(r"`([^`]+)`", row) if code.endswith(".py")]
        folder = (ROOT / files[0]).parent
        paths = [ROOT / file if "/" in file else folder / file for file in files]
        sources = "\n".join(path.read_text(encoding="utf-8") for path in paths)
        for code in re.findall(r"`([^`]+)`", row):
            if not code.endswith(".py"):
                for part in code.split("."):
                    assert re.search(rf"(class|def) {part}\b", sources), f"{row}: {part}"


def test_the_tables_of_results_are_the_records() -> None:
    for name, count in (("README.md", 1), ("docs/results.md", 2)):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert len(TABLE.findall(text)) == count
        assert text == with_tables(text), f"write {name} anew: python tests/documents.py"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.slow
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
