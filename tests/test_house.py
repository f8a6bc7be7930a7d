"""Laws of the house, read from the source. Each breach is reported as file:line, what was found, what the law is.

A rule is a function from one file to its breaches; it runs over every file, and on an example that it must notice.
"""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from house_source import ROOT, Breach, Source, last_name, lines_of, sources

# Floors from the top down: an import stays in its package or goes down. `__init__` is the face of the whole package.
STAGES = (
    ("__init__",),
    ("cli",),
    ("server",),
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

# Who may import a library whose interface changes often.
ONLY_IN = {
    "diffusers": {
        *(
            "src/tenth/models/latent_diffusion.py",
            "src/tenth/models/pipelines.py",
            "src/tenth/training/pocket/modules.py",
            "src/tenth/sampling/schedulers.py",
            "src/tenth/sampling/sampler.py",
        ),
        *("src/tenth/models/pipeline_parts.py", "src/tenth/models/families/loader.py"),
        "src/tenth/models/families/qwen_image_edit.py",  # two pipelines read its prompts
        "src/tenth/models/memory/placement.py",  # its off-loading of blocks and casting of layers
        "src/tenth/training/pocket/augmentation.py",  # a layer of the UNet
        "src/tenth/models/pocket/autoencoder.py",  # a module of diffusers' kind
        *(
            "src/tenth/models/adapters/image_projection.py",
            "src/tenth/models/adapters/regional_attention.py",
            *(f"src/tenth/models/adapters/networks/{name}.py" for name in ("flux1", "flux2", "sd3")),
        ),  # an adapter's modules
    },
    "transformers": {
        *("src/tenth/models/pipelines.py", "src/tenth/models/pipeline_parts.py", "src/tenth/training/pocket/modules.py"),
        *("src/tenth/models/families/loader.py", "src/tenth/models/families/qwen_image_edit.py"),
        *(f"src/tenth/models/encoders/{name}.py" for name in ("clip", "siglip")),
        *(f"src/tenth/evaluation/extractors/{name}.py" for name in ("clip_score", "dinov2")),
    },
    "huggingface_hub": {"src/tenth/models/hub/client.py", "src/tenth/models/hub/transfer.py"},
    "matplotlib": {"src/tenth/reporting/plot_style.py", "src/tenth/reporting/plots.py", "src/tenth/reporting/frontier/plot.py"},
    "jinja2": {"src/tenth/reporting/html/page.py"},
    "ray": {f"src/tenth/{name}.py" for name in ("core/workers/ray_cluster", "core/workers/ray_driver", "training/ray_train")},
    "fsspec": {"src/tenth/experiments/batch/store.py"},
    "pyarrow": {"src/tenth/experiments/batch/plan_files.py"},
    "c2pa": {"src/tenth/core/marks/manifest.py"},
}
EMPTY_WORDS = {"base", "common", "handler", "handlers", "helper", "helpers", "manager", "managers", "util", "utils"}
HOOK = re.compile(r"register_(module_)?(full_)?(forward|backward)_(pre_)?hook")
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# The one pickle that is read, and how: the very bytes whose sha256 was compared, tensors alone.
INCEPTION_FILE = "src/tenth/evaluation/extractors/inception_weights.py"
LOADS_CHECKED = "torch.load(io.BytesIO(read_verified(path)), map_location='cpu', weights_only=True)"
NOT_FOR_COMMERCE = "shape_predictor_68_face_landmarks"  # dlib's 68-point predictor: its data set's licence forbids it
# What these are like is a property of theirs, so that a new one need not be known anywhere else.
NOT_TO_DISPATCH_ON = {
    *("ClipEncoder", "FaceEncoder", "PocketAutoencoder", "LatentDiffusion", "SelfAttentionAggregator", "SetAggregator"),
    *("CombinedMethod", "DreamBooth", "IPAdapter", "TrainedAdapter"),
}
FILE_LINES, MEDIAN_FILE_LINES, EXAMPLE_LINES = 300, 150, 40
FUNCTION_LINES, MEDIAN_FUNCTION_LINES, FIT_LINES = 60, 10, 100
ARGUMENTS = 6  # without self

HOST = re.compile(r"https?://([\w.-]+)|\b((?:[\w-]+\.)+(?:com|org|co|ai))\b")
PAGE_SUFFIXES = (".css", ".html", ".j2", ".js", ".svg")
NAMES_OF_METADATA = r"cv\.iptc\.org$|iptc\.org$|ns\.adobe\.com$"  # of XMP's words, which nobody fetches
NOT_HOSTS = re.compile(
    NAMES_OF_METADATA + r"|localhost|127\.|0\.0\.0\.0|www\.w3\.org$|(.+\.)?example(\.(com|org|net))?$|.+\.(invalid|test)$"
)


def imports_go_down(source: Source) -> Iterator[Breach]:
    if not source.shipped:
        return
    stage = source.path.split("/")[2].removesuffix(".py")
    if stage not in DEPTH:
        yield 1, f"{stage} is in no stage: give it a row in STAGES"
        return
    for line, name in source.imports:
        head, *rest = name.split(".")
        target = rest[0] if rest and rest[0] in DEPTH else "__init__"
        if head == "tenth" and DEPTH[target] < DEPTH[stage]:
            yield line, f"{stage} imports {name}, which is above it: imports only go down"


def libraries_stay_in_place(source: Source) -> Iterator[Breach]:
    for line, name in source.imports:
        places = ONLY_IN.get(name.split(".")[0])
        if source.shipped and places is not None and source.path not in places:
            yield line, f"imports {name}: only {', '.join(sorted(places))} may"


def files_are_small(source: Source) -> Iterator[Breach]:
    most = EXAMPLE_LINES if source.path.startswith("examples/") else FILE_LINES
    if source.lines > most:
        yield source.lines, f"{source.lines} lines: at most {most}"


def functions_are_small(source: Source) -> Iterator[Breach]:
    for function in source.functions():
        the_loop = source.path == "src/tenth/training/loop.py" and function.name == "fit"
        most = FIT_LINES if the_loop else FUNCTION_LINES
        if lines_of(function) > most:
            yield function.lineno, f"{function.name} has {lines_of(function)} lines: at most {most}"


def arguments_are_few(source: Source) -> Iterator[Breach]:
    for function in source.functions():
        if source.path.startswith("src/tenth/cli/") and not function.name.startswith("_"):
            continue  # a command has as many as it has options
        names = [argument.arg for argument in ast.walk(function.args) if isinstance(argument, ast.arg)]
        if len(names) - (names[:1] in (["self"], ["cls"])) > ARGUMENTS:
            yield function.lineno, f"{function.name} has {len(names)} arguments: more than {ARGUMENTS} is a missing dataclass"


def names_say_something(source: Source) -> Iterator[Breach]:
    for part in Path(source.path).with_suffix("").parts:
        if empty := EMPTY_WORDS & set(part.lower().split("_")):
            yield 1, f"the name {part} says nothing with {', '.join(empty)}: name the thing itself"


def no_pickle_is_read(source: Source) -> Iterator[Breach]:
    if not source.shipped:
        return
    for line, name in source.imports:
        if name.split(".")[0] in PICKLES:
            yield line, f"imports {name}: no pickle is read"
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        settings = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        for forbidden in ("allow_pickle", "trust_remote_code"):
            if settings.get(forbidden, False) is not False:
                yield node.lineno, f"{forbidden} is not False: no pickle is read, no foreign code is run"
        if is_torch_load(node) and not (source.path == INCEPTION_FILE and ast.unparse(node) == LOADS_CHECKED):
            yield node.lineno, f"torch.load: only `{LOADS_CHECKED}`, in {INCEPTION_FILE}"


def is_torch_load(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and last_name(node.func) == "load"):
        return False
    return ast.unparse(node.func) in ("torch.load", "torch.hub.load", "torch.jit.load")


def no_network_host(source: Source) -> Iterator[Breach]:
    if source.path == "tests/server/api/test_webhooks.py":  # addresses that are refused
        return
    for number, line in enumerate(source.text.splitlines(), 1):
        for match in HOST.finditer(line):
            host = match[1] or match[2]
            if not NOT_HOSTS.match(host):
                yield number, f"names the host {host}: nothing here asks the network"


def the_predictor_is_never_named(source: Source) -> Iterator[Breach]:
    if not source.shipped or NOT_FOR_COMMERCE not in source.text:
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type != tokenize.COMMENT and NOT_FOR_COMMERCE in token.string:
            yield (
                token.start[0],
                "names the 68-point predictor outside a comment: it is not for commercial use and never opened",
            )


def no_dispatch_on_a_class(source: Source) -> Iterator[Breach]:
    if not source.shipped:
        return
    own = {node.name for node in source.nodes if isinstance(node, ast.ClassDef)}
    for node in source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            names = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
            if found := (names & NOT_TO_DISPATCH_ON) - own:
                yield node.lineno, f"isinstance on {', '.join(sorted(found))}: give it a property"


def nothing_of_others_is_patched(source: Source) -> Iterator[Breach]:
    """No hook on a module, no private attribute and no function set on an object that is not one's own."""
    if not source.shipped:
        return
    for node in source.nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and HOOK.fullmatch(node.func.attr):
            yield node.lineno, f"{node.func.attr}: call the module, and compute what is needed in the open"
        if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete):
            continue
        targets = [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else node.targets
        for target in targets:
            if not isinstance(target, ast.Attribute) or ast.unparse(target.value) in ("self", "cls"):
                continue
            private = target.attr.startswith("_") and target.attr != "__init__"  # which a decorator makes of a class
            if private or isinstance(getattr(node, "value", None), ast.Lambda):
                yield node.lineno, f"sets {ast.unparse(target)}, which is not its own"


def every_test_asserts(source: Source) -> Iterator[Breach]:
    if not Path(source.path).name.startswith("test_"):
        return
    for function in source.functions():
        if function.name.startswith("test_") and not any(map(is_assertion, ast.walk(function))):
            yield function.lineno, f"{function.name} asserts nothing: a test that cannot fail is a defect"


def is_assertion(node: ast.AST) -> bool:
    last = last_name(node.func) if isinstance(node, ast.Call) else ""
    if not last.startswith(("assert_", "tally_inputs", "raises", "warns", "to_", "not_to_")):
        return isinstance(node, ast.Assert)
    name = ast.unparse(node.func).rpartition(".")  # type: ignore[attr-defined]  # of a call
    return (
        name[2].startswith("assert_")
        or name == ("", "", "tally_inputs")  # of tally.py, which fails at its end
        or (name[0] == "pytest" and name[2] in ("raises", "warns"))
        or (name[0].startswith("expect(") and name[2].startswith(("to_", "not_to_")))  # playwright's
    )


# Every rule, with a file that breaks it once.
Rule = Callable[[Source], Iterator[Breach]]
RULES: dict[Rule, Source] = {
    imports_go_down: Source("src/tenth/data/photo_folder.py", "def f():\n    from ..report import page"),
    libraries_stay_in_place: Source("src/tenth/methods/dreambooth/method.py", "from diffusers import UNet2DConditionModel"),
    files_are_small: Source("src/tenth/cli/main.py", "x = 1\n" * 301),
    functions_are_small: Source("src/tenth/cli/main.py", "def f():\n" + "    x = 1\n" * 60),
    arguments_are_few: Source("src/tenth/core/rng.py", "def f(a, b, /, c, *d, e, f, **g): ..."),
    names_say_something: Source("src/tenth/data/photo_utils.py", ""),
    no_pickle_is_read: Source("src/tenth/core/cache.py", "torch.load('weights.pt', weights_only=True)"),
    no_network_host: Source("tests/test_photo.py", "page = 'https://" + "pictures.net/a'"),
    the_predictor_is_never_named: Source(
        "src/tenth/data/faces/detection.py", f"# {NOT_FOR_COMMERCE}\nname = '{NOT_FOR_COMMERCE}.dat'"
    ),
    no_dispatch_on_a_class: Source("src/tenth/experiments/demo.py", "isinstance(method, IPAdapter | DreamBooth)"),
    nothing_of_others_is_patched: Source("src/tenth/sampling/sampler.py", "def f(unet):\n    unet.to = lambda *_: unet"),
    every_test_asserts: Source("tests/test_photo.py", "def test_photo():\n    open_photo('a.png')"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_law(rule: Rule) -> None:
    files = sources("src/tenth", "tests", "examples", "benchmarks")
    breaches = [f"{file.path}:{line}: {found}" for file in files for line, found in rule(file)]
    assert not breaches, "\n" + "\n".join(breaches)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_law_notices_a_breach(rule: Rule) -> None:
    assert len(list(rule(RULES[rule]))) == 1


def test_medians() -> None:
    files = sources("src/tenth")
    functions = [lines_of(function) for file in files for function in file.functions()]
    assert statistics.median(file.lines for file in files) <= MEDIAN_FILE_LINES
    assert statistics.median(functions) <= MEDIAN_FUNCTION_LINES


def test_pages_ask_no_other_host() -> None:
    pages = [path for path in sorted((ROOT / "src").rglob("*")) if path.suffix in PAGE_SUFFIXES]
    assert {".css", ".j2"} <= {path.suffix for path in pages}
    files = [Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in pages]
    breaches = [f"{file.path}:{line}: {found}" for file in files for line, found in no_network_host(file)]
    assert not breaches, "\n" + "\n".join(breaches)


def test_torch_load_stands_in_one_place() -> None:
    calls = [(file.path, node.lineno) for file in sources("src") for node in file.nodes if is_torch_load(node)]
    assert len(calls) <= 1, f"torch.load is allowed once, found {calls}"
