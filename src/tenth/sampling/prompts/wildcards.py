r"""Templates of prompts -> prompts: {a|b} is one of the two, __name__ a line of name.txt. Chosen by the image's seed alone.

A backslash before a brace, bar or underscore makes it a character like any other; it stays there for models/prompt_weights.py,
which removes it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

from tenth.core.errors import DataError, RecipeError
from tenth.core.files.reading import UnreadableError, read_text, reason
from tenth.core.wording import did_you_mean, shorten

DEFAULT_FOLDER = Path("wildcards")  # read where it exists
MAX_DEPTH = 10  # of choices within choices, and of files that name files
MAX_CHOICES = 1_000  # of a prompt: a file that names itself would never end
MAX_FILE_BYTES = 1 << 20
NAME = re.compile(r"[\w-]+(?:/[\w-]+)*")  # of a file without .txt: below the folder, with no dot in it
TOKEN = re.compile(r"\\.|__(?P<file>[^\s,{}|]+?)__|(?P<mark>[{}|])|[^\\_{}|]+|[\\_]", re.DOTALL)


@dataclass(frozen=True)
class Wildcards:
    """What __name__ stands for: a line of name.txt in a folder. folder: None where there is none."""

    folder: Path | None = None
    _files: dict[str, list[str]] = field(default_factory=dict)

    def choices(self, name: str) -> list[str]:
        """The lines of a file, without blank ones and those that begin with #. Raises DataError."""
        if name not in self._files:
            self._files[name] = self._read(name)
        return self._files[name]

    def _read(self, name: str) -> list[str]:
        said = f"__{shorten(name)}__"
        action = r"Correct it, or write \_\_ for underscores that are none of a wildcard"
        if self.folder is None:
            raise DataError(f"{said} is a wildcard", "a folder of wildcards is needed", f"Give --wildcards. {action}")
        root = self.folder.resolve()
        path = (root / f"{name}.txt").resolve()
        if not NAME.fullmatch(name) or not path.is_relative_to(root):  # a link may lead out of the folder, too
            raise DataError(f"{said} is no file in {self.folder}", "a name such as hair or clothes/hats is needed", action)
        try:
            lines = [line.strip() for line in StringIO(read_text(path, MAX_FILE_BYTES), newline=None)]
        except FileNotFoundError:
            known = sorted(each.relative_to(root).with_suffix("").as_posix() for each in root.rglob("*.txt"))
            hint = did_you_mean(name, known)
            raise DataError(f"{said}: {path.name} is not in {self.folder}", "a text file is needed", hint + action) from None
        except (OSError, UnreadableError) as problem:
            raise DataError(f"{said}: {path} {reason(problem)}", "a text file is needed", action) from problem
        choices = [line for line in lines if line and not line.startswith("#")]
        if not choices:
            raise DataError(f"{said}: {path} has no line to choose", "at least one is needed", "Add one")
        return choices


def open_wildcards(folder: Path | None = None) -> Wildcards:
    """The wildcards of a folder; None: of DEFAULT_FOLDER, where it exists. Raises DataError if it is no folder."""
    if folder is not None and not folder.is_dir():
        raise DataError(f"{folder} is no folder", "a folder of text files is needed", "Correct --wildcards")
    return Wildcards(folder or (DEFAULT_FOLDER if DEFAULT_FOLDER.is_dir() else None))


def resolve_wildcards(template: str, seed: int, wildcards: Wildcards | None = None) -> str:
    """The prompt of an image with this seed. Raises DataError for a file, RecipeError for braces without an end."""
    return _Resolver(seed, wildcards or Wildcards()).resolve(template, 0)


class _Resolver:
    """Makes one image's choices, each by the seed and how many came before."""

    def __init__(self, seed: int, wildcards: Wildcards) -> None:
        self.seed, self.wildcards, self.count = seed, wildcards, 0

    def choose(self, choices: Sequence[str], depth: int) -> str:
        """One of the texts, resolved."""
        from tenth.core.rng import derive_seed  # torch, which takes seconds

        index = derive_seed("wildcard", self.seed, self.count) % len(choices)
        self.count += 1
        if self.count > MAX_CHOICES:
            raise RecipeError("a prompt with too many wildcards", f"at most {MAX_CHOICES:,} are possible", "Use fewer")
        return self.resolve(choices[index], depth + 1)

    def resolve(self, template: str, depth: int) -> str:
        """The text with every choice in it made."""
        if depth > MAX_DEPTH:
            raise RecipeError(f"wildcards in {shorten(repr(template))}", f"at most {MAX_DEPTH} within each other", "Use fewer")
        parts: list[str] = []
        choices: list[list[str]] = []  # of each brace that is open, the text of its alternatives so far
        for token in TOKEN.finditer(template):
            # Within braces the text is kept as it is, until the outermost is closed.
            if token["mark"] == "{":
                choices.append([""])
            elif token["mark"] == "}" and len(choices) == 1:
                parts.append(self.choose(choices.pop(), depth))
            elif token["mark"] == "}" and choices:
                inner = "{" + "|".join(choices.pop()) + "}"
                choices[-1][-1] += inner
            elif token["mark"] == "|" and choices:
                choices[-1].append("")
            elif choices:
                choices[-1][-1] += token[0]
            else:
                parts.append(self.choose(self.wildcards.choices(token["file"]), depth) if token["file"] else token[0])
        if choices:
            action = r"Close it, or write \{ for a brace"
            raise RecipeError(f"a brace in {shorten(repr(template))} has no end", "{a|b} is needed", action)
        return "".join(parts)
