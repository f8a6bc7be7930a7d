"""Laws of the house, read from the source. Each breach is reported as file:line, what was found, what the law is.

A rule is a function from one file to its breaches; it runs over every file, and on an example that it must notice.
"""

from __future__ import annotations

import ast
import graphlib
import io
import re
import statistics
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Floors from the top down: an import stays in its package or goes down. `__init__` is the face of the whole package.
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

# Who may import a library whose interface changes often.
ONLY_IN = {
    "diffusers": {
        *(
            "src/tenth/models/latent_diffusion.py",
            "src/tenth/models/pipelines.py",
            "src/tenth/training/pocket/modules.py",
            "src/tenth/sampling/schedulers.py",
        ),
        "src/tenth/models/pipeline_parts.py",
        "src/tenth/training/pocket/augmentation.py",  # a layer of the UNet
        "src/tenth/models/pocket/autoencoder.py",  # a module of diffusers' kind
        "src/tenth/models/adapters/image_projection.py",  # an adapter's modules
    },
    "transformers": {
        *("src/tenth/models/pipelines.py", "src/tenth/models/pipeline_parts.py", "src/tenth/training/pocket/modules.py"),
        *("src/tenth/models/encoders/clip.py", "src/tenth/evaluation/extractors/clip_score.py"),
    },
    "huggingface_hub": {"src/tenth/models/hub/client.py", "src/tenth/models/hub/transfer.py"},
    "matplotlib": {"src/tenth/reporting/plot_style.py", "src/tenth/reporting/plots.py"},
    "jinja2": {"src/tenth/reporting/html/page.py"},
}
EMPTY_WORDS = {"base", "common", "handler", "handlers", "helper", "helpers", "manager", "managers", "util", "utils"}
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
MAX_ENTRIES, MIN_MODULES, MAX_MODULES, MAX_FLOORS = 12, 3, 12, 9  # of src/tenth; of a package, without __init__; of imports

HOST = re.compile(r"https?://([\w.-]+)|\b((?:[\w-]+\.)+(?:com|org|co|ai))\b")
PAGE_SUFFIXES = (".css", ".html", ".j2", ".js", ".svg")
NOT_HOSTS = re.compile(r"localhost|127\.|0\.0\.0\.0|www\.w3\.org$|(.+\.)?example(\.(com|org|net))?$|.+\.(invalid|test)$")

Breach = tuple[int, str]
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """A file of Python: its path from the root, with slashes, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def module(self) -> str:
        """Its dotted name."""
        return self.path.removeprefix("src/").removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def shipped(self) -> bool:
        return self.path.startswith("src/")

    def functions(self) -> Iterator[Function]:
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def imports(self) -> Iterator[Breach]:
        """Line and dotted name of every import, wherever it stands; names in strings, as lazy tables hold them, too."""
        package = self.path.removeprefix("src/").split("/")[:-1]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                parents = package[: len(package) + 1 - node.level] if node.level else []
                module = ".".join([*parents, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Constant) and re.fullmatch(r"tenth(\.\w+)+(:\w+)?", str(node.value)):
                yield node.lineno, str(node.value).split(":")[0]


def sources(*folders: str) -> list[Source]:
    paths = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return [Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def lines_of(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def imports_go_down(source: Source) -> Iterator[Breach]:
    if not source.shipped:
        return
    stage = source.path.split("/")[2].removesuffix(".py")
    if stage not in DEPTH:
        yield 1, f"{stage} is in no stage: give it a row in STAGES"
        return
    for line, name in source.imports():
        head, *rest = name.split(".")
        target = rest[0] if rest and rest[0] in DEPTH else "__init__"
        if head == "tenth" and DEPTH[target] < DEPTH[stage]:
            yield line, f"{stage} imports {name}, which is above it: imports only go down"


def libraries_stay_in_place(source: Source) -> Iterator[Breach]:
    for line, name in source.imports():
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
    for line, name in source.imports():
        if name.split(".")[0] in PICKLES:
            yield line, f"imports {name}: no pickle is read"
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Call):
            continue
        settings = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        for forbidden in ("allow_pickle", "trust_remote_code"):
            if settings.get(forbidden, False) is not False:
                yield node.lineno, f"{forbidden} is not False: no pickle is read, no foreign code is run"
        if is_torch_load(node) and not (source.path == INCEPTION_FILE and ast.unparse(node) == LOADS_CHECKED):
            yield node.lineno, f"torch.load: only `{LOADS_CHECKED}`, in {INCEPTION_FILE}"


def is_torch_load(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.hub.load", "torch.jit.load")


def no_network_host(source: Source) -> Iterator[Breach]:
    for number, line in enumerate(source.text.splitlines(), 1):
        for match in HOST.finditer(line):
            host = match[1] or match[2]
            if not NOT_HOSTS.match(host):
                yield number, f"names the host {host}: nothing here asks the network"


def the_predictor_is_never_named(source: Source) -> Iterator[Breach]:
    if not source.shipped:
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
    own = {node.name for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
            names = {each.id for each in ast.walk(node.args[1]) if isinstance(each, ast.Name)}
            if found := (names & NOT_TO_DISPATCH_ON) - own:
                yield node.lineno, f"isinstance on {', '.join(sorted(found))}: give it a property"


def every_test_asserts(source: Source) -> Iterator[Breach]:
    if not Path(source.path).name.startswith("test_"):
        return
    for function in source.functions():
        if function.name.startswith("test_") and not any(map(is_assertion, ast.walk(function))):
            yield function.lineno, f"{function.name} asserts nothing: a test that cannot fail is a defect"


def is_assertion(node: ast.AST) -> bool:
    name = ast.unparse(node.func).rpartition(".") if isinstance(node, ast.Call) else ("", "", "")
    return (
        isinstance(node, ast.Assert)
        or name[2].startswith("assert_")
        or name == ("", "", "tally_inputs")  # of tally.py, which fails at its end
        or (name[0] == "pytest" and name[2] in ("raises", "warns"))
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


Imports = dict[str, set[str]]  # module or package -> those that it imports


def imports_of_modules(files: list[Source]) -> Imports:
    modules = {file.module: file for file in files}
    imports: Imports = {}
    for module, file in modules.items():
        # An import names a module, or something in a module.
        names = {name if name in modules else name.rpartition(".")[0] for _, name in file.imports()}
        imports[module] = names & set(modules) - {module}
    return imports


def imports_of_packages(modules: Imports) -> Imports:
    packages: Imports = {}
    for module, names in modules.items():
        if module != "tenth":  # the face of the whole, which is lazy
            package = module.split(".")[1]
            packages.setdefault(package, set()).update(name.split(".")[1] for name in names - {"tenth"})
            packages[package].discard(package)
    return packages


def floors(imports: Imports) -> dict[str, int]:
    """How many floors each stands on, its own included. Raises CycleError if imports go in a circle."""
    counts: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(imports).static_order():
        counts[name] = 1 + max((counts[below] for below in imports[name]), default=0)
    return counts


def test_imports_stand_on_few_floors_and_go_in_no_circle() -> None:
    modules = imports_of_modules(sources("src/tenth"))
    assert len(floors(modules)) > 100
    assert max(floors(imports_of_packages(modules)).values()) <= MAX_FLOORS


def test_a_circle_and_floors_of_imports_are_noticed() -> None:
    texts = {"a": "from .b import x", "b": "import tenth.c.d", "c/d": "", "c/__init__": "from ..a import y"}
    modules = imports_of_modules([Source(f"src/tenth/{name}.py", text) for name, text in texts.items()])
    assert modules == {"tenth.a": {"tenth.b"}, "tenth.b": {"tenth.c.d"}, "tenth.c.d": set(), "tenth.c": {"tenth.a"}}
    assert floors(modules)["tenth.c"] == 4
    with pytest.raises(graphlib.CycleError):
        floors(imports_of_packages(modules))


def test_folders_are_neither_crowded_nor_empty() -> None:
    package = ROOT / "src/tenth"
    assert len([path for path in package.iterdir() if path.name != "__pycache__"]) <= MAX_ENTRIES
    folders = {path.parent for path in package.rglob("__init__.py")} - {package}
    counts = {folder: len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) for folder in folders}
    wrong = {folder.name: count for folder, count in counts.items() if not MIN_MODULES <= count <= MAX_MODULES}
    assert len(folders) > 10
    assert not wrong, f"a package has {MIN_MODULES} to {MAX_MODULES} modules"


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
    calls = [(file.path, node.lineno) for file in sources("src") for node in ast.walk(file.tree) if is_torch_load(node)]
    assert len(calls) <= 1, f"torch.load is allowed once, found {calls}"
