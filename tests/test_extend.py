"""docs/extend.md is true: its files and rows, put into a copy of the source, are a method, a metric and a model."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from documents import ROOT
from fresh import Fresh
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from toy_aura_flow import write_aura_flow
from toy_models import with_published_tokenizers, write_stable

PAGE = (ROOT / "docs/extend.md").read_text(encoding="utf-8")
ADDITION = re.compile(
    r"The file, `(?P<file>\S+\.py)`\..*?```python\n(?P<text>.*?)```.*?"
    r"The import and the row in `(?P<table>\w+)` of `(?P<registry>\S+)`:\n\n```text\n(?P<line>from .*?\n)(?P<row>.*?)```",
    re.DOTALL,
)
COMMANDS = (
    ("methods",),
    ("metrics",),
    ("models",),
    (
        "generate",
        "me",
        "--method",
        "ip-adapter-median",
        "--prompt",
        "a photo of a person",
        "--steps",
        "1",
        "-n",
        "2",
        "-o",
        "out",
    ),
    ("evaluate", "out", "--held-out", "me", "--json"),
    ("generate", "me", "--model", "studio", "--prompt", "a photo of a person", "--steps", "1", "-n", "1", "-o", "studio"),
)
PROGRAM = """
import contextlib, io, json, sys
sys.path.insert(0, {source!r})
from tenth.cli.main import main
said = []
for words in {commands!r}:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words)
    said.append([code, out.getvalue()])
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source with what the page adds; all but Python is linked."""
    copy = tmp_path_factory.mktemp("copy")

    def copy_file(here: str, there: str) -> None:
        if here.endswith(".py"):
            shutil.copy(here, there)
        else:
            Path(there).symlink_to(here)

    shutil.copytree(
        ROOT / "src/tenth", copy / "src/tenth", copy_function=copy_file, ignore=shutil.ignore_patterns("__pycache__")
    )
    additions = list(ADDITION.finditer(PAGE))
    assert [found["table"] for found in additions] == ["_METHODS", "ROWS", "MODELS", "FAMILIES"]
    for found in additions:
        assert not (copy / found["file"]).exists()
        (copy / found["file"]).write_text(found["text"], encoding="utf-8")
        registry = copy / found["registry"]
        text = registry.read_text(encoding="utf-8").replace("\nfrom tenth.", f"\n{found['line']}from tenth.", 1)
        text, tables = re.subn(rf"^{found['table']}\b.*[({{].*\n", rf"\g<0>{found['row']}", text, flags=re.MULTILINE)
        assert tables == 1, f"{found['registry']} has {tables} tables {found['table']}"
        registry.write_text(text, encoding="utf-8")
    return copy


@pytest.mark.slow
def test_what_the_page_adds_works(source: Path, fresh: Fresh, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE_PHOTOS_DIR, tmp_path / "me")
    with_published_tokenizers(write_stable("sd15", tmp_path / "models/studio"))
    program = PROGRAM.format(source=str(source / "src"), commands=COMMANDS)
    done = fresh.within(TENTH_CACHE_DIR=str(tmp_path / "store")).python(program, tmp_path)
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert [code for code, _ in said] == [0] * len(COMMANDS), done.err
    methods, metrics, models, _, scores, _ = (text for _, text in said)

    # Each is listed with its description, and was used.
    assert "ip-adapter-median" in methods
    assert "lowest-similarity" in metrics
    assert "studio" in models
    found = json.loads(scores)["metrics"]
    assert -1 <= found["lowest-similarity"]["value"] <= found["identity-similarity"]["value"]
    for folder, count in (("out", 2), ("studio", 1)):
        assert len(list((tmp_path / folder).glob("[0-9]*.png"))) == count
    assert json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))["settings"]["methods"] == ["ip-adapter-median"]


DRAWN = """
import sys
sys.path.insert(0, {source!r})
import numpy as np, torch
from diffusers import AuraFlowPipeline
from tenth.models.registry import load_model
from tenth.sampling.config import SamplingConfig
from tenth.sampling.sampler import SamplingBatch, sample_float

model, pipeline = load_model("aura"), AuraFlowPipeline.from_pretrained("aura")
sampling = SamplingConfig(steps=1, guidance_scale=3.5, guidance_rescale=0.0, negative_prompt="a hat")
prompts, seeds = ["a photo of a person", "somebody else"], [3, 4]
for image, prompt, seed in zip(sample_float(SamplingBatch(model, sampling, prompts, seeds)), prompts, seeds):
    theirs = pipeline(prompt, "a hat", 1, height=64, width=64, generator=torch.Generator().manual_seed(seed), output_type="np")
    print(np.abs(image - theirs.images[0]).max(), theirs.images[0].std())
"""


@pytest.mark.slow
def test_the_family_that_the_page_adds_draws_as_diffusers_draws(source: Path, fresh: Fresh, tmp_path: Path) -> None:
    write_aura_flow(tmp_path / "aura")
    done = fresh.within(TENTH_CACHE_DIR=str(tmp_path / "store")).python(DRAWN.format(source=str(source / "src")), tmp_path)
    assert done.code == 0, done.err
    drawn = [tuple(map(float, line.split())) for line in done.out.splitlines()]
    assert len(drawn) == 2
    for difference, contrast in drawn:
        assert difference < 1e-4
        assert contrast > 0.01


def test_what_the_page_adds_is_typed_and_in_style(source: Path) -> None:
    files = [str(source / found["file"]) for found in ADDITION.finditer(PAGE)]
    for tool in ("ruff check", "ruff format --check"):
        done = subprocess.run(
            [sys.executable, "-m", *tool.split(), "--config", str(ROOT / "pyproject.toml"), *files],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
