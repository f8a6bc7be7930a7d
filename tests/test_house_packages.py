"""Laws of the house about packages: few floors, no circle, folders neither crowded nor empty."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence

import pytest

from house_source import ROOT, Source, sources

MAX_ENTRIES, MIN_MODULES, MAX_MODULES, MAX_FLOORS = 12, 3, 12, 9  # of src/tenth; of a package, without __init__; of imports
Imports = dict[str, set[str]]  # module or package -> those that it imports


def imports_of_modules(files: Sequence[Source]) -> Imports:
    modules = {file.module: file for file in files}
    imports: Imports = {}
    for module, file in modules.items():
        # An import names a module, or something in a module.
        names = {name if name in modules else name.rpartition(".")[0] for _, name in file.imports}
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
    assert len({path.name for path in package.iterdir()} - {"__pycache__", "py.typed"}) <= MAX_ENTRIES  # a marker is no room
    folders = {path.parent for path in package.rglob("__init__.py")} - {package}
    counts = {folder: len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) for folder in folders}
    wrong = {folder.name: count for folder, count in counts.items() if not MIN_MODULES <= count <= MAX_MODULES}
    assert len(folders) > 10
    assert not wrong, f"a package has {MIN_MODULES} to {MAX_MODULES} modules"
