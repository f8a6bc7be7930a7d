"""python manual.py ROOT: edits by hand after move.py, tests_map.py, fix.py and ruff's import fixes; says what did not match."""
import re, sys
from pathlib import Path
ROOT = Path(sys.argv[1])
def cut(path, start, end):
    p = ROOT / path; t = p.read_text()
    i = t.index(start); j = t.index(end, i) if end else len(t)
    piece = t[i:j]; p.write_text(t[:i] + t[j:]); return piece
def sub(path, *pairs):
    p = ROOT / path; t = p.read_text()
    for a, b in pairs:
        if a not in t: print("no match", path, repr(a[:80])); continue
        t = t.replace(a, b)
    p.write_text(t)
L = "src/tenth/models/latent_diffusion.py"
sample = cut(L, "    def sample(\n", "    @contextmanager\n    def drawing")
drawing = cut(L, "    @contextmanager\n    def drawing", "    def beside_nobody")
sampler = cut(L, "    def sampler(self", "\n\n@contextmanager\ndef _unmoved")
def dedent(t): return "\n".join(l[4:] if l.startswith("    ") else l for l in t.rstrip().split("\n")) + "\n"
sample = dedent(sample).replace("    self,\n", "    model: LatentDiffusion,\n").replace("self.drawing(sampling", "drawing(model, sampling").replace("self.", "model.")
drawing = dedent(drawing).replace("def drawing(self, sampling", "def drawing(model: LatentDiffusion, sampling").replace("self.", "model.")
sampler = dedent(sampler).replace("def sampler(self, sampling", "def sampler_name(model: LatentDiffusion, sampling").replace("self.", "model.")
p = ROOT / "src/tenth/sampling/sampler.py"; t = p.read_text()
t = t.replace("\n\ndef asked(", "\n\n" + sample + "\n\n" + drawing + "\n\n" + sampler + "\n\ndef asked(", 1)
t = t.replace("from contextlib import contextmanager\n", "from contextlib import contextmanager, nullcontext\n")
t = t.replace("from tenth.core.types import Pixels\n", "from tenth.core.types import Pixels\nfrom tenth.models.adapters.adapter_scale import set_scale\nfrom tenth.models.latent_diffusion import LatentDiffusion\nfrom tenth.models.pipelines import quiet\nfrom tenth.sampling.finite import decoding\nfrom tenth.sampling.guidance import guided\nfrom tenth.sampling.schedulers import SCHEDULERS, label_of, scheduled\n")
p.write_text(t)
def add(path, line):
    p = ROOT / path; t = p.read_text()
    t = t.replace("from __future__ import annotations\n", f"from __future__ import annotations\n\n{line}\n", 1) if "from __future__ import annotations\n" in t else re.sub(r"(\n\"\"\"\n)", r"\1\n" + line + "\n", t, count=1)
    p.write_text(t)
for path, a, b, name in (
 ("src/tenth/training/adapter/validation.py", "model.sample(", "sample(model, ", "sample"),
 ("src/tenth/methods/dreambooth/checkpoint_selection.py", "self.model.sample(", "sample(self.model, ", "sample"),
 ("src/tenth/methods/dreambooth/data.py", "model.sample(", "sample(model, ", "sample"),
 ("src/tenth/sampling/generate.py", "model.sample(", "sample(model, ", "sample"),
 ("src/tenth/sampling/generate.py", "model.sampler(", "sampler_name(model, ", "sampler_name"),
 ("src/tenth/sampling/img2img.py", "scene.model.drawing(", "drawing(scene.model, ", "drawing"),
 ("tests/methods/test_interchange.py", "model.drawing(", "drawing(model, ", "drawing"),
 ("tests/models/test_adapters.py", "model.drawing(", "drawing(model, ", "drawing"),
 ("tests/toy_drawing.py", "model.drawing(", "drawing(model, ", "drawing"),
 ("tests/test_laws.py", "model.sample(", "sample(model, ", "sample"),
 ("tests/sampling/test_sampler.py", "stable.drawing(", "drawing(stable, ", "drawing"),
 ("benchmarks/prior_preservation.py", "model.sample(", "sample(model, ", "sample"),
):
    sub(path, (a, b)); add(path, f"from tenth.sampling.sampler import {name}")
# folder of photos: one examine, one read_person, with the recogniser as default
P = "src/tenth/data/photo_folder.py"
t = (ROOT / P).read_text()
i = t.index("\ndef read_person(directory")
t = t[:i].rstrip() + "\n"
t = re.sub(r"^from tenth.data import photo_folder as folder\n", "", t, flags=re.M)
t = re.sub(r"def read_person\(folder: Path, \*, describe: Describe, same", "def read_person(folder: str | Path, *, describe: Describe | None = None, same", t)
t = re.sub(r"def examine\(folder: Path, \*, describe: Describe, same", "def examine(folder: str | Path, *, describe: Describe | None = None, same", t)
t = t.replace("name or folder.resolve().name)", "name or Path(folder).resolve().name)")
t = t.replace("    entries = _entries(folder)\n", "    folder, describe = Path(folder), describe or describe_through(Store(default_store()))\n    entries = _entries(folder)\n")
t = t.replace("from tenth.data.face_descriptors import Describe\n", "from tenth.core.cache import Store, default_store\nfrom tenth.data.face_descriptors import Describe, describe_through\n")
(ROOT / P).write_text(t)
sub("src/tenth/data/face_descriptors.py", ("-> folder.Describe", "-> Describe"))
# commands live in three modules now
A = "src/tenth/cli/arguments.py"
t = (ROOT / A).read_text()
t = t.replace("from tenth.cli import generate as commands\nfrom tenth.cli import info as model_commands\n", "from tenth.cli import generate, info, train\n")
for name in ("train", "experiment", "report", "evaluate", "lfw", "people"): t = re.sub(rf"\bcommands\.{name}\b", f"train.{name}", t)
for name in ("methods", "metrics", "doctor"): t = re.sub(rf"\bcommands\.{name}\b", f"info.{name}", t)
t = t.replace("model_commands.", "info.")
t = re.sub(r"\bcommands\.", "generate.", t)
(ROOT / A).write_text(t)
# the lazy public face: each name where its import under TYPE_CHECKING says
I = "src/tenth/__init__.py"
t = (ROOT / I).read_text()
homes = {}
for module, names in re.findall(r"    from (tenth\S+) import (.+)", t):
    for each in names.split(", "):
        name, _, alias = each.partition(" as ")
        homes[alias or name] = f"{module}:{name}" if alias else module
t = re.sub(r'"(\w+)": "(tenth[\w.:]+)"', lambda m: f'"{m[1]}": "{homes[m[1]]}"', t)
(ROOT / I).write_text(t)
sub("src/tenth/core/types.py",
    ("    def sample(self, prompts: Sequence[str], seeds: Sequence[int], sampling: Any) -> list[Pixels]: ...\n", "    def beside_nobody(self, embeddings: Tensor) -> Tensor: ...\n"),
    ("    trained: Mapping[str, Path]\n\n    def add_adapter", "    trained: Mapping[str, Path]\n    texts: Any\n\n    def add_adapter"),
    ("pipeline: of diffusers, for methods that train; whatever they do, it is as before when they are done.", "pipeline: of diffusers, and texts: prompts -> its text embeddings; for sampling, and for methods that train. Whatever they do,\n    the pipeline is as before when they are done."))
sub("src/tenth/sampling/sampler.py", ("model: LatentDiffusion", "model: Diffusion"), ("from tenth.models.latent_diffusion import LatentDiffusion\n", ""), ("from tenth.core.types import Pixels\n", "from tenth.core.types import Diffusion, Pixels\n"))

sub("src/tenth/reporting/html/scatter_plot.py", ("    for number, block in enumerate(blocks):\n        below = sum(len(other) for other in blocks[number:])", "    for position, block in enumerate(blocks):\n        below = sum(len(other) for other in blocks[position:])"))
t = (ROOT / "tests/test_house.py").read_text()
i = t.index("# Stages from the top down"); j = t.index("# Who may import a library")
t = t[:i] + '''# Floors from the top down: an import stays in its package or goes down. `__init__` is the face of the whole package.
STAGES = (
    ("__init__",),
    ("cli",),
    ("experiments",),
    ("methods",),
    ("training",),
    ("reporting",),
    ("evaluation",),
    ("sampling",),
    ("models",),
    ("data",),
    ("core",),
)
DEPTH = {name: depth for depth, row in enumerate(STAGES) for name in row}

''' + t[j:]
(ROOT / "tests/test_house.py").write_text(t)
sub("src/tenth/__init__.py", ("# name -> where it lives, with its name there if another (`tenth.sampling.generate` is the module); imported on use: --help is quick", "# name -> where it lives, with its name there if it has another; imported on use, so that --help is quick"),
    ('    "Request": "tenth.sampling.generate", "draw": "tenth.sampling.generate:generate", "save_sample": "tenth.sampling.png_metadata",\n', '    "Request": "tenth.sampling.generate", "draw": "tenth.sampling.generate:generate",\n    "save_sample": "tenth.sampling.png_metadata",\n'))
sub("src/tenth/core/types.py", ("pipeline: of diffusers, and texts: prompts -> its text embeddings; for sampling, and for methods that train. Whatever they do,\n    the pipeline is as before when they are done.", "pipeline: of diffusers; texts: prompts -> its text embeddings. Whatever sampling and training do with them, they are as\n    before when it is done."))
sub("benchmarks/activations.py", ("beside the estimate of tenth.models.memory.footprint.", "beside the estimate\nof tenth.models.memory.footprint."))
sub("tests/cli/test_terminal.py", ('''    line = "import os, sys; from tenth.core.console import speak_plainly; speak_plainly(); print(open(sys.argv[1], 'w').fileno() > 2)"''', '''    line = "import sys; from tenth.core.console import speak_plainly; speak_plainly(); print(open(sys.argv[1], 'w').fileno() > 2)"'''))
sub("tests/test_alone.py", ("    \"from tenth.models.adapters.ip_adapter import adapter_weights, read_adapter, save_adapter; save_adapter({}, 'none.safetensors')\",", "    \"from tenth.models.adapters.ip_adapter import adapter_weights, save_adapter; save_adapter({}, 'none.safetensors')\","))
