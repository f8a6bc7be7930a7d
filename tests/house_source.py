"""Files of Python as the laws of the house read them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All of the tree, which is walked once: there are many laws."""
        return tuple(ast.walk(self.tree))

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
        return (node for node in self.nodes if isinstance(node, Function))

    @cached_property
    def imports(self) -> tuple[Breach, ...]:
        """Line and dotted name of every import, wherever it stands; names in strings, as lazy tables hold them, too."""
        return tuple(self._imports())

    def _imports(self) -> Iterator[Breach]:
        package = self.path.removeprefix("src/").split("/")[:-1]
        for node in self.nodes:
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                parents = package[: len(package) + 1 - node.level] if node.level else []
                module = ".".join([*parents, *([node.module] if node.module else [])])
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
            elif isinstance(node, ast.Constant) and re.fullmatch(r"tenth(\.\w+)+(:\w+)?", str(node.value)):
                yield node.lineno, str(node.value).split(":")[0]


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """The files of these folders."""
    return tuple(read_source(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))


@cache
def read_source(path: Path) -> Source:
    """Each file is read and parsed once."""
    return Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def lines_of(function: Function) -> int:
    """With its docstring, without its signature: a command's has a line for each option."""
    return (function.end_lineno or function.lineno) - function.body[0].lineno + 2


def last_name(function: ast.expr) -> str:
    """What a call calls, without what it is of: `ast.unparse` takes most of the time of all laws."""
    return function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
