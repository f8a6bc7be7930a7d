"""Laws of the package: what it exposes, what comes into the wheel, what git holds, how fast its help can be."""

from __future__ import annotations

import fnmatch
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tenth.core.files.reading import is_system_file

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src"
PACKAGE = SRC / "tenth"

DATA_BYTES = 32_000_000  # all of the wheel but Python
TRACKED_BYTES = 39_500_000  # everything that a clone brings
FACE_NAMES = range(5, 19)  # about ten
PHOTO_SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
PHOTO_FOLDERS = ("src/tenth/models/pocket/photos/", "docs/")
HEAVY = {"diffusers", "dlib", "numpy", "pydantic", "rich", "torch", "torchvision", "transformers"}

PACKAGES = sorted(".".join(path.parent.relative_to(SRC).parts) for path in PACKAGE.rglob("__init__.py"))


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def data_files() -> list[Path]:
    """All of src/tenth but Python and its caches."""
    paths = (path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    return [path for path in paths if path.suffix != ".py"]


def tracked_files() -> list[Path]:
    """What git tracks here; skips the test where this is no checkout, as in an unpacked archive."""
    try:
        top = subprocess.run(["git", "rev-parse", "--show-toplevel"], cwd=ROOT, capture_output=True, text=True, check=True)
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("no git, or not a git checkout")
    if Path(top.stdout.rstrip("\n")).resolve() != ROOT:
        pytest.skip("part of another git checkout")
    paths = [ROOT / name for name in names.split("\0") if name]
    if not paths:
        pytest.skip("git tracks no file yet")
    return [path for path in paths if path.is_file()]


def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def largest(paths: list[Path]) -> str:
    """The five largest files, for messages."""
    first = sorted(paths, key=lambda path: -path.stat().st_size)[:5]
    return "; the largest: " + ", ".join(f"{relative(path)} {path.stat().st_size:,}" for path in first)


def test_every_folder_with_python_is_a_package() -> None:
    missing = {relative(path.parent) for path in PACKAGE.rglob("*.py") if not (path.parent / "__init__.py").is_file()}
    assert not missing, f"no __init__.py, so the wheel leaves them out: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("name", PACKAGES)
def test_all_is_what_is_exposed(name: str) -> None:
    module = import_module(name)
    promised = set(getattr(module, "__all__", ()))
    exposed = {word for word in dir(module) if not word.startswith("_") and is_exposed(module, word, promised)}
    assert exposed == promised, f"{name}/__init__.py: exposed but not in __all__, or the reverse: {sorted(exposed ^ promised)}"


def is_exposed(module: ModuleType, word: str, promised: set[str]) -> bool:
    """Whether a name of `dir` counts: submodules, `annotations` and TYPE_CHECKING are there by themselves."""
    value = getattr(module, word)
    by_itself = isinstance(value, ModuleType) or word in ("annotations", "TYPE_CHECKING")
    return word in promised or not by_itself


@pytest.mark.skipif("tenth" not in PACKAGES, reason="tenth/__init__.py does not exist yet")
def test_the_face_is_about_ten_names() -> None:
    names = import_module("tenth").__all__
    assert len(names) in FACE_NAMES, f"src/tenth/__init__.py:1: {len(names)} names in __all__"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['tenth', '--help']\n"
        "from tenth.cli.main import main\n"
        "try:\n"
        "    status = main()\n"
        "except SystemExit as leaving:\n"
        "    status = leaving.code\n"
        f"sys.exit(status or ', '.join(sorted({HEAVY!r} & set(sys.modules))) or 0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(SRC)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, f"src/tenth/cli/main.py: `tenth --help` loads or says {result.stderr.strip()}"
    assert "tenth" in result.stdout


def test_the_wheel_takes_every_file() -> None:
    patterns = settings()["tool"]["setuptools"]["package-data"]["tenth"]
    names = [path.relative_to(PACKAGE).as_posix() for path in data_files()]
    left = [name for name in names if not any(fnmatch.fnmatch(name, pattern.replace("**/", "*")) for pattern in patterns)]
    assert not left, f"not in package-data of pyproject.toml: {', '.join(left)}"


def test_the_wheel_is_small() -> None:
    total = sum(path.stat().st_size for path in data_files())
    assert total <= DATA_BYTES, f"package data is {total:,} bytes of {DATA_BYTES:,}{largest(data_files())}"


def test_a_clone_is_small() -> None:
    paths = tracked_files()
    total = sum(path.stat().st_size for path in paths)
    assert total <= TRACKED_BYTES, f"tracked files are {total:,} bytes of {TRACKED_BYTES:,}{largest(paths)}"


def test_no_litter_is_tracked_nor_would_be() -> None:
    assert [relative(path) for path in tracked_files() if is_system_file(path.relative_to(ROOT))] == []
    places = (
        "src/tenth/pocket/__pycache__/load.pyc",
        "src/tenth/models/pocket/model/.DS_Store",
        "docs/Thumbs.db",
        "docs/._a.png",
    )
    ignored = subprocess.run(["git", "check-ignore", *places], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == list(places)


def test_no_photo_is_tracked_but_the_pocket_models() -> None:
    photos = [relative(path) for path in tracked_files() if path.suffix.lower() in PHOTO_SUFFIXES]
    stray = [name for name in photos if not name.startswith(PHOTO_FOLDERS)]
    assert not stray, f"only {' and '.join(PHOTO_FOLDERS)} hold pictures: {', '.join(stray)}"


def test_every_dependency_is_pinned() -> None:
    project = settings()["project"]
    wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    names = {re.split(r"[^\w-]", line)[0] for line in wanted} - {project["name"]}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if "==" in line}
    assert names <= pinned, f"not in constraints.txt: {', '.join(sorted(names - pinned))}"


def test_no_name_of_the_face_is_hidden_by_a_module_of_the_same_name() -> None:
    """Importing tenth.x sets the attribute x of tenth: a function of that name would be gone."""
    import tenth

    for path in PACKAGE.glob("*.py"):
        if path.stem not in ("__init__", "__main__"):
            import_module(f"tenth.{path.stem}")
    hidden = [name for name in tenth.__all__ if isinstance(getattr(tenth, name), ModuleType)]
    assert not hidden, f"src/tenth/__init__.py: modules, not what they hold: {hidden}"


def test_the_command_that_is_installed_starts() -> None:
    """Its entry point names a function, and the script that pip has written runs."""
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["tenth"]
    module, _, function = entry.partition(":")
    assert callable(getattr(import_module(module), function))
    done = subprocess.run([Path(sys.executable).parent / "tenth", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()[:1]) == (0, ["tenth"]), done.stderr
