"""HTML and SVG from Python: text is escaped by itself, so that nothing in a record can become part of the page's code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TypeAlias

VOID = {"br", "img"}  # elements that have no end


class Markup(str):
    """Text that is HTML already. Any other text is escaped where it becomes part of one."""

    __slots__ = ()


Content: TypeAlias = "str | float | Iterable[Content] | None"  # what may stand in an element
Attribute = str | float | bool | None


def element(name: str, *content: Content, **attributes: Attribute) -> Markup:
    """One element. content: text, Markup, numbers, or several of them; None is left out.

    attributes: `class_` is class, other underscores are hyphens; None and False are left out, True is the bare name.
    """
    words = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    end = "" if name in VOID else f"{joined(content)}</{name}>"
    return Markup(f"<{name}{words}>{end}")


def joined(content: Iterable[Content]) -> Markup:
    """All of it in a row, escaped where it is not Markup."""
    return Markup("".join(_one(part) for part in content))


def series(parts: Sequence[Content], between: str = ", ", last: str = " and ") -> Markup:
    """A, b and c."""
    signs = ["", *[between] * (len(parts) - 2), last][: len(parts)]
    return joined(text for pair in zip(signs, parts, strict=True) for text in pair)


def _one(part: Content) -> str:
    if part is None:
        return ""
    if isinstance(part, Markup):
        return part
    if isinstance(part, str | int | float):
        return escape(_plain(part))
    return joined(part)


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(_plain(value))}"'


def _plain(value: str | float | None) -> str:
    """Numbers as SVG wants them: short, and never in powers of ten."""
    return f"{round(value, 2):.10g}" if isinstance(value, float) else str(value)
