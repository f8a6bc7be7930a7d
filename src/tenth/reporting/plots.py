"""Three plots of a record: similarity by number of photos, the same for each method alone, similarity against copying."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.errors import DataError
from tenth.core.files.writing import write_bytes
from tenth.core.wording import pluralize
from tenth.reporting.metric_columns import condition_text, heading, interval, number, short
from tenth.reporting.plot_style import COLORS, figure_bytes, inline_svg, series_style, styled_figure
from tenth.reporting.results_reader import FLOOR, IDENTITY, Condition, Estimate, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

PLOT_SUFFIXES = (".png", ".svg")  # how the name of a plot's file may end
COPYING = "copy-paste-index"
MAX_NAME = 33  # characters of a name in a legend; of a longer one, as of a path, the end is shown

Points = Mapping[Condition, Estimate]
Pair = tuple[Estimate, Estimate]  # copy-paste index, similarity


@dataclass(frozen=True)
class Plot:
    """A plot in the page. note: small, beside the title. svg: the element."""

    title: str
    note: str
    svg: str


def write_curve(results: Results, path: Path, *, new: bool = False) -> None:
    """Similarity by number of photos, all methods in one plot: 1200 x 800 pixels, or an SVG where `path` ends so.

    new: nothing is replaced. Raises DataError for a record with fewer than two numbers of photos, InputError without
    matplotlib, CheckpointError if a new file is there already.
    """
    prompt_sets = [prompt_set for prompt_set in results.scored if has_curve(results, prompt_set)]
    if not prompt_sets:
        raise DataError("a curve over one number of photos", "two are needed", "Add counts to the recipe")
    with styled_figure(12, 8) as figure:
        _curve(figure, results, prompt_sets[0])
        write_bytes(path, figure_bytes(figure, ".svg" if path.suffix.lower() == ".svg" else ".png"), no_overwrite=new)


def small_multiples(results: Results, prompt_set: str) -> list[Plot]:
    """A plot for each method on one scale: its points with intervals, the others in grey behind it. Empty without a curve.

    Nine lines whose intervals overlap cannot be read in one plot; nine plots can.
    """
    if not has_curve(results, prompt_set):
        return []
    points, floor = _points(results, prompt_set), results.measured(prompt_set, FLOOR)
    shown = [*(estimate for found in points.values() for estimate in found.values()), *([floor] if floor else [])]
    low, high = min(min(estimate) for estimate in shown), max(max(estimate) for estimate in shown)
    margin = 0.05 * (high - low or 1.0)

    plots = []
    for index, (name, found) in enumerate(points.items()):
        with styled_figure(3.4, 2.2, salt=f"multiples {prompt_set} {index}") as figure:
            axes = figure.add_axes((0.13, 0.13, 0.74, 0.82))
            axes.set_ylim(low - margin, high + margin)
            _one_of_many(axes, points, name, results.baseline)
            _floor(axes, floor)
            text = ", ".join(f"{number(estimate.value, 3)} with {condition_text(at)}" for at, estimate in found.items())
            last = results.find(prompt_set, name, at=_last(found))
            ends = interval(last.low, last.high, 3) if last else ""
            note = f"{condition_text(_last(found))}: {number(found[_last(found)].value, 3)} {ends}"
            plots.append(Plot(name, note, inline_svg(figure, f"{name}: {text}")))
    return plots


def scatter(results: Results, prompt_set: str) -> list[Plot]:
    """Similarity against the copy-paste index: methods among the controls, and the methods alone, enlarged."""
    points: dict[str, Pair] = {}
    for name in results.names:
        copying, similarity = results.measured(prompt_set, name, COPYING), results.measured(prompt_set, name)
        if copying and similarity:
            points[name] = copying, similarity
    methods = {name: pair for name, pair in points.items() if name in results.methods}
    controls = {name: pair for name, pair in points.items() if name not in methods}
    shown = [("Methods among the controls", controls, methods)] if controls and methods else []
    shown += [("Methods alone, enlarged" if controls else "Methods", methods, {})] if methods else []

    plots = []
    for title, named, unnamed in shown:
        with styled_figure(6.4, 4.0, salt=f"scatter {prompt_set} {title}") as figure:
            _scatter(figure.add_axes((0.1, 0.13, 0.5, 0.83)), results, named, unnamed)
            text = "; ".join(
                f"{name}: similarity {number(y.value, 3)}, copy-paste index {number(x.value, 3)}"
                for name, (x, y) in named.items()
            )
            plots.append(Plot(title, "", inline_svg(figure, f"{title}. {text}")))
    return plots


def has_curve(results: Results, prompt_set: str) -> bool:
    """Whether similarity was measured with two numbers of photos or more."""
    return len({at for found in _points(results, prompt_set).values() for at in found if not at[1]}) > 1


def _points(results: Results, prompt_set: str) -> dict[str, Points]:
    """Each method's similarity under the conditions where it has a value; methods without any are left out."""
    points = {}
    for name in results.methods:
        found = {at: results.measured(prompt_set, name, at=at) for at in results.conditions}
        points[name] = {at: estimate for at, estimate in found.items() if estimate}
    return {name: found for name, found in points.items() if found}


def _curve(figure: Figure, results: Results, prompt_set: str) -> None:
    """All methods side by side at each number of photos, so that each interval is seen; impostor photos at the right."""
    points, floor, real = (
        _points(results, prompt_set),
        *(results.measured(prompt_set, name) for name in (FLOOR, "real photos")),
    )
    positions, step = _positions(points)
    axes = figure.add_axes((0.075, 0.14, 0.64, 0.72))
    lines: dict[str, Line2D] = {}
    for index, (name, found) in enumerate(points.items()):
        beside = (index - (len(points) - 1) / 2) * 0.6 * step / len(points)
        style = {**method_style(results, name), "linewidth": 2, "elinewidth": 1.4, "capsize": 3}
        lines[name] = _line_and_hollow_points(axes, {at: x + beside for at, x in positions.items()}, found, style)
    ranked = sorted(points, key=lambda name: -points[name][_last(points[name])].value)
    legend(axes, {name: lines[name] for name in ranked} | _floor(axes, floor), 11)

    # Title and note above.
    ticks = [condition_text(at).replace(", ", ",\n") if at[1] else str(at[0]) for at in positions]
    axes.set_xticks(list(positions.values()), ticks)
    axes.set_xlabel("number of photos given", fontsize=12)
    axes.set_ylabel(heading(IDENTITY), fontsize=12)
    axes.tick_params(labelsize=12)
    figure.text(0.075, 0.945, "ID similarity by number of photos", fontsize=19)
    people = pluralize(len(results.people), "person")
    note = f"Mean cosine to held-out photos of the same person, {people}; bars: 95 % intervals over people."
    known = f" Real photos: {real.value:.3f}." if real else ""
    text = f"{note}{known}\nRecognizer: {short(results.recognizer.name)}."
    figure.text(0.075, 0.895, text, fontsize=11, color=COLORS["soft"])


def _one_of_many(axes: Axes, points: Mapping[str, Points], name: str, baseline: str) -> None:
    """One method in the accent's color, the baseline dashed and the others in grey behind it."""
    for other, found in points.items():
        if other != name:
            color, dashes = (COLORS["soft"], "--") if other == baseline else (COLORS["grey"], "-")
            clean = {at[0]: estimate.value for at, estimate in found.items() if not at[1]}
            axes.plot(list(clean), list(clean.values()), dashes, color=color, linewidth=1)
    positions, _ = _positions(points)
    style = {"color": COLORS["accent"], "marker": "o", "markersize": 5, "elinewidth": 1.2, "capsize": 2.5}
    _line_and_hollow_points(axes, positions, points[name], style)
    axes.set_xticks(list(positions.values()), [f"{at[1]} other" if at[1] else str(at[0]) for at in positions])


def _line_and_hollow_points(axes: Axes, positions: Mapping[Condition, float], points: Points, style: dict[str, Any]) -> Line2D:
    """The points with their intervals and a line through them; those with impostor photos hollow, without a line."""
    hollow = {
        "linestyle": "none",
        "markerfacecolor": COLORS["paper"],
        "markeredgecolor": style["color"],
        "markeredgewidth": 1.2,
    }
    lines = []
    for mixed, look in ((False, {}), (True, hollow)):
        shown = {positions[at]: estimate for at, estimate in points.items() if bool(at[1]) == mixed}
        values = [estimate.value for estimate in shown.values()]
        lines.append(axes.errorbar(list(shown), values, yerr=reaches(shown.values()), **style | look)[0])
    line: Line2D = lines[0]
    return line


def _scatter(axes: Axes, results: Results, named: Mapping[str, Pair], unnamed: Mapping[str, Pair]) -> None:
    """named: each with its own marker and name. unnamed: blue points, whose names are in the other plot."""
    blue = {"color": COLORS["accent"], "marker": "o", "markersize": 8}
    lines: dict[str, Line2D] = {}
    for name, (x, y) in {**unnamed, **named}.items():
        style = blue if name in unnamed else method_style(results, name) | ({"color": COLORS["soft"]} if unnamed else {})
        bars: Any = axes.errorbar(
            [x.value], [y.value], xerr=reaches([x]), yerr=reaches([y]), linestyle="none", elinewidth=0.9, **style
        )
        lines["methods" if name in unnamed else name] = bars[0]
    axes.set_xlabel("copy-paste index: 0 a new image, 1 a copied reference")
    axes.set_ylabel(heading(IDENTITY))
    ranked = sorted(named, key=lambda name: -named[name][1].value)
    legend(axes, {name: lines[name] for name in (["methods"] if unnamed else []) + ranked}, 8.5)


def _floor(axes: Axes, floor: Estimate | None) -> dict[str, Line2D]:
    """A dotted line, and its interval as a pale band. Gives the line by its name, or nothing."""
    if floor is None:
        return {}
    axes.axhspan(min(floor), max(floor), color=COLORS["rule"], alpha=0.5, linewidth=0)
    return {FLOOR: axes.axhline(floor.value, color=COLORS["soft"], linestyle=":", linewidth=1.4)}


def legend(axes: Axes, lines: Mapping[str, Line2D], size: float) -> None:
    """At the right of the plot, in this order, without intervals. A name may have a second line, which is never shortened."""
    parts = [name.partition("\n") for name in lines]
    names = [(name if len(name) <= MAX_NAME else f"…{name[1 - MAX_NAME :]}") + end + second for name, end, second in parts]
    axes.legend(list(lines.values()), names, loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=size, borderaxespad=0)


def _positions(points: Mapping[str, Points]) -> tuple[dict[Condition, float], int]:
    """Where each condition is along the axis, those with impostor photos to the right; and the least step."""
    conditions = sorted({at for found in points.values() for at in found})
    counts = [photos for photos, impostors in conditions if not impostors]
    step = min(b - a for a, b in pairwise(counts))
    mixed = [at for at in conditions if at[1]]
    apart = {at: counts[-1] + step * (1.4 + index) for index, at in enumerate(mixed)}
    return {(count, 0): float(count) for count in counts} | apart, step


def _last(points: Points) -> Condition:
    """The most photos without an impostor."""
    return max(points, key=lambda at: (-at[1], at[0]))


def method_style(results: Results, name: str) -> dict[str, Any]:
    """Of a method by its place among the methods, of a control among the controls: the same in every plot of a page."""
    index = (results.methods if name in results.methods else results.controls).index(name)
    return {**series_style(index), "markeredgecolor": COLORS["paper"], "markeredgewidth": 0.6}


def reaches(estimates: Iterable[Estimate]) -> list[list[float]]:
    """How far the intervals reach below and above the values, as matplotlib wants it."""
    ends = [(value - min(value, low), max(value, high) - value) for value, low, high in estimates]
    return [list(side) for side in zip(*ends, strict=True)] or [[], []]
