"""How plots look, and how matplotlib's figures become SVG within the page: same input, same bytes; light and dark.

matplotlib comes with the extra `report`. It is imported where a plot is drawn, so that everything else works without it.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any

from tenth.core.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The page's colours in light, by the names of templates/page.css, whose variables they become within the page.
COLORS = {"ink": "#16181b", "soft": "#5c636b", "rule": "#dfe2e6", "grey": "#a9b0b8", "accent": "#0b62a8", "paper": "#ffffff"}
# Okabe and Ito's colours, which people of all kinds of colour vision tell apart, without yellow, too pale on white.
# Seven colours and eight markers: the two together distinguish 56 methods.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", COLORS["ink"])
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

STYLE: dict[str, Any] = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],  # matplotlib brings it; in the page the reader's own font takes its place
    "font.size": 9,
    "text.color": COLORS["ink"],
    "text.parse_math": False,  # a dollar in a method's name is a dollar
    "axes.labelcolor": COLORS["soft"],
    "axes.edgecolor": COLORS["soft"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": COLORS["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": COLORS["soft"],
    "ytick.color": COLORS["soft"],
    "legend.frameon": False,
    "figure.facecolor": COLORS["paper"],
    "svg.fonttype": "none",  # text stays text: small, selectable, and found by a search
    "svg.image_inline": True,
}


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


@contextmanager
def styled_figure(width: float, height: float, salt: str = "tenth") -> Iterator[Figure]:
    """A figure of this size, inches, to draw on and to save within the block.

    salt: part of the SVG's ids, so that figures of one page do not share any. Raises InputError without matplotlib.
    """
    if not can_plot():
        raise InputError("matplotlib is not installed", "plots need it", "Run `pip install 'tenth[report]'`")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {**STYLE, "svg.hashsalt": salt}  # matplotlib's types list every key
    with rc_context(style), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # the reader's own font may have it
        yield Figure(figsize=(width, height), dpi=100)


def series_style(index: int) -> dict[str, Any]:
    """Color and marker of a method, by its index; markers that look equally large: a star is mostly gaps."""
    marker = MARKERS[index % len(MARKERS)]
    return {"color": SERIES[index % len(SERIES)], "marker": marker, "markersize": 12 if marker == "*" else 8}


def figure_bytes(figure: Figure, suffix: str) -> bytes:
    """The figure as a file, ".png" at 100 pixels an inch or ".svg", without date or version."""
    nothing = {".png": ("Software",), ".svg": ("Date", "Creator", "Format", "Type")}[suffix]
    packed = BytesIO()
    figure.savefig(packed, format=suffix[1:], metadata=dict.fromkeys(nothing))
    return packed.getvalue()


def inline_svg(figure: Figure, text: str) -> str:
    """The figure as an element of the page, in the page's font and colours. text: what it shows, for who cannot see it."""
    whole = figure_bytes(figure, ".svg").decode()
    body = whole[whole.index(">", whole.index("<svg")) + 1 :]
    body = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", body, count=1, flags=re.DOTALL)  # is in page.css

    # Ids of groups are the same in every figure, and nothing refers to them; those of markers and clips have the salt.
    body = re.sub(r'<g id="[^"]*">', "<g>", body).replace("xlink:href", "href")
    body = re.sub(r" font-family: [^;\"]*;?", "", body)
    for name, color in COLORS.items():
        body = body.replace(color, f"var(--{name})")
    body = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), body)
    body = re.sub(r"\n\s*", "\n", body)

    width, height = (round(72 * side, 2) for side in figure.get_size_inches())
    return f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(text)}">{body}'
