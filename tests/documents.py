"""The code blocks, tables and claims of the documents, and the inputs that the code needs.

`python tests/documents.py` writes the tables of results anew, each by the command in the comment above it, and the claims.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import save_file

from tenth.core.run_record import read_record
from tenth.models.adapters.ip_adapter import init_ip_adapter, install_ip_adapter, ip_adapter_state_dict
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR, MODEL_DIR
from tenth.reporting.claims import against, finding, pair
from tenth.reporting.markdown import summary
from tenth.reporting.results_reader import Results, read_results
from toy_models import with_published_tokenizers, write_stable

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^## (.*)$", re.MULTILINE)
TABLE = re.compile(r"(<!-- tenth report (\S+) --summary(?: \| ([^\n]*))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)
# What is said of a record: `claim RUN` is the first sentence of its finding, `claim RUN METHOD` all methods against one, and
# `claim RUN METHOD BASELINE` two methods; of RUN:SET those of a prompt set, else of the first.
CLAIM = re.compile(r"(<!-- claim ([^\s<>]+)((?: [^\s<>]+)*) -->)(.*?)(<!-- end -->)", re.DOTALL)
WITH_RESULTS = ("README.md", "docs/results.md", "docs/choose.md")

# The documents whose code blocks are run, and under which headings; None: all of them.
RUN: dict[str, tuple[str, ...] | None] = {
    "README.md": None,
    "docs/start.md": None,
    "docs/generate.md": None,
    "docs/batch.md": None,
    "docs/benchmark.md": ("With people of your own",),
    "docs/marks.md": None,
    "docs/models.md": ("Download a model",),
    "docs/people.md": None,
    "docs/train.md": ("A first run", "Your own people", "Train the pocket model"),
}

# What is not run: how a line of a shell begins, and why. Each such line of tenth's says so to its reader too.
NOT_RUN = {
    "git clone ": "needs a network",
    "python -m venv ": "sets up an environment",
    "pip install ": "needs a network",
    "tenth data lfw lfw-deepfunneled.tgz ": "needs LFW, of which no photo is here",
    "tenth train recipes/pocket-": "an hour each, and LFW",
}


@dataclass(frozen=True)
class Block:
    """A block of code. language: "" of a shell, "python", "toml", ..."""

    location: str  # file:line
    language: str
    text: str

    @property
    def lines(self) -> list[str]:
        """Of a shell: each command, without its comment."""
        commands = (line.partition("  #")[0].strip() for line in self.text.splitlines())
        return [line for line in commands if line and not line.startswith("#")]


def blocks_of(name: str, headings: tuple[str, ...] | None = None) -> list[Block]:
    """The fenced blocks of a Markdown file: all of them, or those under these headings of the second level."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = []
    for found in FENCE.finditer(text):
        heading = [title[1] for title in HEADING.finditer(text, 0, found.start())][-1:]
        if headings is None or heading[0] in headings:
            blocks.append(Block(f"{name}:{text.count(chr(10), 0, found.start()) + 1}", found[2], found[3]))
    return blocks


def blocks_of_docstrings() -> Iterator[Block]:
    """Every fenced block of the package's docstrings, and every `>>>` in them."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (said := ast.get_docstring(node)):
                where = f"{path.relative_to(ROOT).as_posix()}:{getattr(node, 'lineno', 1)}"
                yield from (Block(where, found[2], found[3]) for found in FENCE.finditer(said))
                yield from (Block(where, "python", line[4:]) for line in said.splitlines() if line.startswith(">>> "))


def skip_reason(line: str) -> str:
    """Why a line is not run; "" where it is."""
    return next((reason for begin, reason in NOT_RUN.items() if line.startswith(begin)), "")


def blocks_that_run() -> list[Block]:
    """The code blocks of all documents in RUN."""
    return [block for name, headings in RUN.items() for block in blocks_of(name, headings)]


def shell_lines(blocks: Iterable[Block]) -> list[str]:
    """Every line of a shell in these blocks."""
    return [line for block in blocks if not block.language for line in block.lines]


def with_tables(text: str) -> str:
    """A document's text with each of its tables of results as the command in the comment above it prints it."""

    def table(found: re.Match[str]) -> str:
        begin, folder, pipe, _, end = found.groups()
        lines = summary(read_record(ROOT / folder, command="experiment"))
        if pipe:
            lines = subprocess.run(["sh", "-c", pipe], input=lines, capture_output=True, text=True, check=True).stdout
        return f"{begin}{lines}{end}"

    return TABLE.sub(table, text)


@cache
def results_of(run: str) -> Results:
    """The results of a record of the repository."""
    return read_results(read_record(ROOT / "results" / run, command="experiment"))


def with_claims(text: str) -> str:
    """A document's text with each of its claims as the record carries it."""

    def claim(found: re.Match[str]) -> str:
        begin, record, names, _, end = found.groups()
        run, _, named_set = record.partition(":")
        results = results_of(run)
        prompt_set, methods = named_set or results.scored[0], names.split()
        if not set(methods) <= set(results.methods):
            raise ValueError(f"{begin}: the record is of the methods {', '.join(results.methods)}")
        said = {
            0: lambda: finding(results, prompt_set)[0].removesuffix("."),
            1: lambda: against(results, prompt_set, *methods).removesuffix("."),
            2: lambda: pair(results, prompt_set, *methods),
        }[len(methods)]()
        return f"{begin}{said}{end}"

    return CLAIM.sub(claim, text)


def write_inputs(folder: Path) -> None:
    """What the text has its reader bring: photos of a person, of people, held-out ones, a recipe; folders of the checkout."""
    photos = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
    for name, some in {
        "me": photos[:3],
        "me-held-out": photos[3:5],
        "people/anna": photos[:5],
        "people/bert": photos[5:],
    }.items():
        (folder / name).mkdir(parents=True)
        for photo in some:
            shutil.copy(photo, folder / name)
    mask = Image.new("L", (128, 128))
    mask.paste(255, (32, 64, 96, 112))
    mask.save(folder / "mask.png")
    table = next(block.text for block in blocks_of("docs/generate.md", ("Prompts",)) if block.language == "text")
    (folder / "prompts.csv").write_text(table, encoding="utf-8")
    plan = next(block.text for block in blocks_of("docs/batch.md") if block.language == "toml")
    (folder / "plan.toml").write_text(plan, encoding="utf-8")
    for name in ("recipes", "results"):
        shutil.copytree(ROOT / name, folder / name)
    # Of the recipe that takes a minute, two steps; the same is the reader's own recipe.
    smoke = folder / "recipes/smoke-attention.toml"
    text, replaced = re.subn(r"= (1_600|80)$", "= 16", smoke.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert replaced == 2
    smoke.write_text(text, encoding="utf-8")
    shutil.copy(smoke, folder / "my-recipe.toml")
    shutil.copytree(MODEL_DIR, folder / "runs/pocket-diffusion-4/final")  # what the hours of training come to


def write_toy_sd15(folder: Path) -> Path:
    """A model with the parts of Stable Diffusion 1.5, tiny, with random weights, that draws 512 x 512 as that does."""
    torch.manual_seed(0)
    write_stable("sd15", folder)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    unet = UNet2DConditionModel(
        sample_size=64,
        cross_attention_dim=16,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        attention_head_dim=2,
    )
    pipeline.vae = AutoencoderKL(
        block_out_channels=(4, 4, 4, 4),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        latent_channels=4,
    )
    pipeline.unet = unet
    pipeline.save_pretrained(folder)
    install_ip_adapter(unet, init_ip_adapter(unet, 24))
    save_file(ip_adapter_state_dict(unet), folder / "ip-adapter/ip-adapter.safetensors")
    return with_published_tokenizers(folder)


if __name__ == "__main__":
    for document in (ROOT / name for name in WITH_RESULTS):
        document.write_text(with_claims(with_tables(document.read_text(encoding="utf-8"))), encoding="utf-8")
