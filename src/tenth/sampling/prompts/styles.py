"""Styles: a prompt in other words around it, and what the images should not show, by a name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tenth.core.config import config_dataclass, from_table, needs, read_toml
from tenth.core.errors import RecipeError, unknown_name
from tenth.sampling.bounds import check_prompt

STYLES_FILE = Path(__file__).with_name("styles.toml")  # in the words of the pocket model
PLACE = "{prompt}"  # where the prompt goes


@config_dataclass
class Style:
    """A template of prompts, with {prompt} where the prompt goes, and a negative prompt."""

    prompt: Annotated[str, needs(f"a text with {PLACE} in it", lambda text: PLACE in text)]
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        check_prompt("prompt", self.prompt)
        check_prompt("negative_prompt", self.negative_prompt)

    def applied(self, prompt: str, negative_prompt: str) -> tuple[str, str]:
        """The two prompts in this style: what the style does not show comes after what the user does not want."""
        return self.prompt.replace(PLACE, prompt), ", ".join(filter(None, (negative_prompt, self.negative_prompt)))


def read_styles(path: Path = STYLES_FILE) -> dict[str, Style]:
    """The styles in a TOML file, a table for each, by their names. Raises RecipeError."""
    styles = {}
    for name, table in read_toml(path).items():
        if not isinstance(table, dict):
            raise RecipeError(f"{path}: {name} is no table", "a table for each style is needed", f"Write [{name}]")
        styles[name] = from_table(Style, table, f"{path}, style {name}")
    return styles


def read_style(name: str, path: Path | None = None) -> Style:
    """One of the styles of a file; None: of those that come with tenth. Raises InputError."""
    path = path or STYLES_FILE
    styles = read_styles(path)
    if name not in styles:
        raise unknown_name("style", name, list(styles), f"They are in {path.name}")
    return styles[name]
