"""Every command, every public name and every module works in a process that has loaded nothing else of tenth."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest
from PIL import Image

import tenth
from documents import blocks_that_run, shell_lines
from fresh import ROOT, Done, Fresh
from parsed_commands import top_commands
from tenth.core.files.reading import sha256_of
from tenth.data.manifest import ManifestEntry, write_manifest
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

# Commands that test_documents.py does not run, each in a process of its own too. `inputs` puts what they read into the folder.
COMMANDS = (
    "generate me.safetensors --prompt 'a photo of a person' -n 1 --size 192 -o from-file",
    "export me.safetensors -o other/me.safetensors",
    "experiment few.toml -o runs/few",
    "report record --summary",
    "batch plan.toml -o batch",
    "data lfw lfw -o data/lfw",
    "methods",
    "metrics",
    "models",
    "doctor --json",
    "serve --users users.json --add-user anna",
)
# What a library's user writes, each by itself: names of the package's face, then what the documents name.
PROGRAMS = (
    "import tenth; assert tenth.load_model('pocket').name.startswith('pocket@')",
    "import tenth; assert len(tenth.read_person('me/').photos) == 3",
    "import tenth; tenth.save_identity(tenth.load_identity('me.safetensors'), 'same.safetensors')",
    "import tenth; assert tenth.method('ip-adapter-max').name == 'ip-adapter-max'",
    "import tenth; assert tenth.METHODS and tenth.METRICS and tenth.MODELS",
    "import tenth; assert tenth.Request(None, 'a person', 0).seed == 0",
    "import tenth; assert tenth.SamplingConfig().guidance_scale is None",
    "import tenth; assert tenth.ImageRequest(('a person',), size='256').target_size.width == 256",
    """
import tenth
request = tenth.ImageRequest(("a person",), num_images=1)
paths = tenth.generate_images(request, tenth.load_identity("me.safetensors"), "by-request")
assert [path.name for path in paths] == ["0000.png"]
""",
    "import tenth; assert tenth.HiresConfig(256, 192).square_side == 221",
    "import tenth; assert tenth.StartImage.open('me/01.png', strength=0.5).resolved_strength == 0.5",
    "import tenth; assert tenth.rank_samples([], tenth.read_person('me/').photos) == []",
    "import tenth; assert issubclass(tenth.TenthError, Exception)",
    """
import tenth
model = tenth.load_model()
(sample,) = tenth.generate(model, [tenth.Request(None, "a person", 0)], tenth.SamplingConfig())
tenth.save_sample(sample, "nobody.png")
""",
    "from tenth.models.pocket.loader import load_pocket; assert load_pocket().name.startswith('pocket@')",
    "import tenth.models.pocket.autoencoder as it; assert it.PocketAutoencoder().encode",
    "import tenth.models.adapters.ip_adapter as it; it.ip_adapter_state_dict; it.save_ip_adapter({}, 'none.safetensors')",
    "from tenth.data.manifest import read_manifest; assert read_manifest('people.jsonl')",
    "from tenth.data.splits import split_references",
    "from tenth.data.captions.templates import vocabulary; assert 'smiling' in vocabulary()",
    "from tenth.data.faces.detection import find_faces",
    "from tenth.data.photo_folder import inspect_folder; assert len(inspect_folder('me')) == 3",
    "from tenth.data.faces.descriptors import face_descriptor",
    "from tenth.evaluation.extractors.face_recognizer import YuNet",
    "from tenth.core.files.png_metadata import read_sample",
    "from tenth.methods.combined import combine_identities",
    "from tenth.reporting.markdown import markdown",
    "from tenth.core.types import Person, Photo",
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands read: photos of one person, of two, of LFW's layout; recipes; a record."""
    folder = tmp_path_factory.mktemp("alone")
    photos = sorted(EXAMPLE_PHOTOS_DIR.glob("*.png"))
    for name, some in {"me": photos[:3], "people/anna": photos[:5], "people/bert": photos[5:]}.items():
        (folder / name).mkdir(parents=True)
        for photo in some:
            shutil.copy(photo, folder / name)
    (folder / "lfw/Ann_Nobody").mkdir(parents=True)
    Image.open(photos[0]).convert("RGB").resize((250, 250)).save(folder / "lfw/Ann_Nobody/Ann_Nobody_0001.jpg")
    rows = [
        ManifestEntry(
            f"{path.parent.name}/{path.name}", path.parent.name, "validation", 1, "a photo", ("a photo",), sha256_of(path)
        )
        for path in sorted((folder / "people").rglob("*.png"))
    ]
    write_manifest(folder / "people.jsonl", rows)
    (folder / "few.toml").write_text(
        "split = 'validation'\nmethods = ['ip-adapter']\nimages = 1\nreferences = 2\nheld_out = 2\n"
        "[data]\npeople = 'people.jsonl'\nphotos = 'people'\n"
    )
    (folder / "plan.toml").write_text("people = ['me']\nprompts = ['a photo of a person']\nsampling = {steps = 1}\n")
    shutil.copytree(ROOT / "results/quick-test", folder / "record")
    return folder


@pytest.fixture(scope="module")
def with_identity(fresh: Fresh, inputs: Path) -> Fresh:
    """Processes, and in the folder an identity that one of them has made."""
    made = fresh.command(["identity", "me", "-o", "me.safetensors"], inputs)
    assert made.code == 0, made.err
    return fresh


def right(done: Done) -> bool:
    return done.code == 0 and "Traceback" not in done.err


def test_every_command_is_tried_here_or_by_the_documents() -> None:
    documented = [line.partition(" ")[2] for line in shell_lines(blocks_that_run()) if line.startswith("tenth ")]
    assert {line.split()[0] for line in [*documented, *COMMANDS]} == top_commands()


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_by_itself(line: str, with_identity: Fresh, inputs: Path) -> None:
    done = with_identity.line(f"tenth {line}", inputs)
    assert right(done), done.err


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.strip().partition("\n")[0][:60])
def test_a_public_name_by_itself(program: str, with_identity: Fresh, inputs: Path) -> None:
    done = with_identity.python(program, inputs)
    assert right(done), done.err


def test_every_name_of_the_face_is_tried() -> None:
    missing = [name for name in tenth.__all__ if not any(f"tenth.{name}" in program for program in PROGRAMS)]
    assert missing == []


def test_no_module_needs_one_that_needs_it() -> None:
    """Such a pair works in one order of imports and not in the other."""
    names = {".".join(path.relative_to(ROOT / "src").with_suffix("").parts): path for path in (ROOT / "src").rglob("*.py")}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    needs = {name: set(needed_by(path, names)) for name, path in names.items()}
    order = list(TopologicalSorter(needs).static_order())  # raises CycleError, which names the cycle
    assert set(order) == set(names)


def needed_by(path: Path, names: dict[str, Path]) -> Iterator[str]:
    """Modules that a module's own top level imports: neither within functions nor for the type checker alone."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(names)
            yield from inside or {node.module} & set(names)
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & set(names)


# A path may be a text


def functions_of_programs() -> Iterator[Any]:
    """Every function that PROGRAMS name."""
    for program in PROGRAMS:
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield from (getattr(import_module(node.module), alias.name) for alias in node.names)
    yield from (getattr(tenth, name) for name in tenth.__all__)


def test_a_path_may_be_a_text_in_every_public_function() -> None:
    odd = []
    seen = 0
    for function in functions_of_programs():
        if callable(function) and hasattr(function, "__annotations__") and not isinstance(function, type):
            hints = get_type_hints(function)
            for name, each in signature(function).parameters.items():
                kinds = get_args(hints[name]) if isinstance(hints[name], UnionType) else (hints[name],)
                if Path in kinds and each.kind is not Parameter.VAR_KEYWORD:
                    seen += 1
                    odd += [f"{function.__name__}({name})"] if str not in kinds else []
    assert seen > 8
    assert odd == []


def test_a_path_may_be_a_text_when_it_is_called(
    face_photos: list[Path], toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENTH_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    adapter, trained = (str(toy_folder / part) for part in ("ip-adapter/ip-adapter.safetensors", "ip-adapter-set"))
    shutil.copy(face_photos[0], tmp_path)
    person = tenth.read_person(".")
    for named in (str, Path):
        model = tenth.load_model(named(toy_folder), adapter=named(adapter))
        assert tenth.method(named(trained))(person, model).identity.method == tenth.method(trained).name
    identity = tenth.method("ip-adapter")(person, model).identity
    tenth.save_identity(identity, "folder/me.safetensors")
    assert tenth.load_identity("folder/me.safetensors").photos == identity.photos
    (sample,) = tenth.generate(model, [tenth.Request(identity, "a person", 0)], tenth.SamplingConfig(steps=1))
    tenth.save_sample(sample, "me.png")
    assert import_module("tenth.core.files.png_metadata").read_sample("me.png")["seed"] == 0
    adapters = import_module("tenth.models.adapters.ip_adapter")
    adapters.save_ip_adapter({"image_proj.x": model.encoder.null_embedding()}, "new/adapter.safetensors")
    assert adapters.load_ip_adapter(adapter).keys() == {"image_proj", "ip_adapter"}
