"""Three plots of a record: similarity by number of photos, the same for each method alone, similarity against copying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.errors import DataError
from tenth.core.files.writing import write_bytes
from tenth.core.wording import pluralize
from tenth.reporting.metric_columns import condition_text, heading, interval, number, short
from tenth.reporting.plot_style import COLOURS, inline_svg, marker_size, png_bytes, series_style, styled_figure, svg_bytes
from tenth.reporting.results_reader import IDENTITY, Result, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

FLOOR = "no identity"  # the control that a method without any information about the person would reach
PICTURES = (".png", ".svg")  # how the name of a plot's file may end
COPYING = "copy-paste-index"
LONGEST = 33  # characters of a name in a legend; of a longer one, as of a path, the end is shown

Condition = tuple[int, int]
Points = Mapping[Condition, Result]
Pair = tuple[Result, Result]  # copy-paste index, similarity


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
        write_bytes(path, svg_bytes(figure) if path.suffix.lower() == ".svg" else png_bytes(figure), no_overwrite=new)


def small_multiples(results: Results, prompt_set: str) -> list[Plot]:
    """A plot for each method on one scale: its points with intervals, the others in grey behind it. Empty without a curve.

    Nine lines whose intervals overlap cannot be read in one plot; nine plots can.
    """
    if not has_curve(results, prompt_set):
        return []
    points = {name: found for name in results.methods if (found := points_of(results, prompt_set, name))}
    ends = [end for found in points.values() for each in found.values() for end in _ends(each)]
    floor = results.find(prompt_set, FLOOR, IDENTITY, results.recognizer.name)
    ends += _ends(floor) if floor else []
    margin = 0.05 * (max(ends) - min(ends) or 1.0)

    made = []
    for place, (name, mine) in enumerate(points.items()):
        with styled_figure(3.4, 2.2, salt=f"multiples {prompt_set} {place}") as figure:
            axes = figure.add_axes((0.13, 0.13, 0.74, 0.82))
            axes.set_ylim(min(ends) - margin, max(ends) + margin)
            _one_of_many(axes, results, points, name, floor)
            said = ", ".join(f"{number(each.value or 0, 3)} with {condition_text(at)}" for at, each in mine.items())
            last = max(mine, key=lambda at: (-at[1], at[0]))
            note = f"{condition_text(last)}: {number(mine[last].value or 0, 3)} {interval(mine[last].low, mine[last].high, 3)}"
            made.append(Plot(name, note, inline_svg(figure, f"{name}: {said}")))
    return made


def scatter(results: Results, prompt_set: str) -> list[Plot]:
    """Similarity against the copy-paste index: methods among the controls, and the methods alone, enlarged."""
    points = {name: pair for name in results.names if (pair := _pair(results, prompt_set, name)) is not None}
    methods = {name: pair for name, pair in points.items() if name in results.methods}
    controls = {name: pair for name, pair in points.items() if name not in methods}
    shown = [("Methods among the controls", controls, methods)] if controls and methods else []
    shown += [("Methods alone, enlarged" if controls else "Methods", methods, {})] if methods else []

    made = []
    for title, named, others in shown:
        with styled_figure(6.4, 4.0, salt=f"scatter {prompt_set} {title}") as figure:
            axes = figure.add_axes((0.1, 0.13, 0.5, 0.83))
            _scatter(axes, results, named, others)
            said = "; ".join(
                f"{name}: similarity {number(y.value or 0, 3)}, copy-paste index {number(x.value or 0, 3)}"
                for name, (x, y) in named.items()
            )
            made.append(Plot(title, "", inline_svg(figure, f"{title}. {said}")))
    return made


def has_curve(results: Results, prompt_set: str) -> bool:
    """Whether similarity was measured with two numbers of photos or more."""
    return len({at for name in results.methods for at in _clean(points_of(results, prompt_set, name))}) > 1


def points_of(results: Results, prompt_set: str, name: str) -> dict[Condition, Result]:
    """A method's similarity under each condition where it has a value."""
    found = {at: results.find(prompt_set, name, IDENTITY, results.recognizer.name, at) for at in results.conditions}
    return {at: each for at, each in found.items() if each is not None and each.value is not None}


def _curve(figure: Figure, results: Results, prompt_set: str) -> None:
    """All methods side by side at each number of photos, so that each interval is seen; impostor photos at the right."""
    points = {name: found for name in results.methods if (found := points_of(results, prompt_set, name))}
    places, step = _places(points)
    axes = figure.add_axes((0.075, 0.14, 0.64, 0.72))
    marks: dict[str, Line2D] = {}
    for side, (name, found) in enumerate(points.items()):
        place = _place(results, name)
        beside = (side - (len(points) - 1) / 2) * 0.6 * step / len(points)
        marks[name] = _errorbars(axes, place, {places[at] + beside: each for at, each in _clean(found).items()})
        _errorbars(axes, place, {places[at] + beside: each for at, each in _mixed(found).items()}, hollow=True)
    marks = {name: marks[name] for name in _by_last(points)} | _floor(
        axes, results.find(prompt_set, FLOOR, IDENTITY, results.recognizer.name)
    )
    axes.set_xticks(list(places.values()), [condition_text(at).replace(", ", ",\n") if at[1] else str(at[0]) for at in places])

    # Title and note above, the legend from the highest curve to the lowest.
    axes.set_xlabel("number of photos given", fontsize=12)
    axes.set_ylabel(heading(IDENTITY), fontsize=12)
    axes.tick_params(labelsize=12)
    figure.text(0.075, 0.945, "ID similarity by number of photos", fontsize=19)
    real = results.find(prompt_set, "real photos", IDENTITY, results.recognizer.name)
    known = f" Real photos: {real.value:.3f}." if real and real.value is not None else ""
    people = pluralize(len(results.people), "person")
    note = f"Mean cosine to held-out photos of the same person, {people}; bars: 95 % intervals over people."
    figure.text(
        0.075, 0.895, f"{note}{known}\nRecognizer: {short(results.recognizer.name)}.", fontsize=11, color=COLOURS["soft"]
    )
    _legend(axes, marks, 11)


def _errorbars(axes: Axes, place: int, points: Mapping[float, Result], *, hollow: bool = False) -> Line2D:
    """The place-th method's points with their intervals and a line through them; hollow: without the line."""
    colour, marker = series_style(place)
    drawn = axes.errorbar(
        list(points),
        [each.value or 0.0 for each in points.values()],
        yerr=_reaches(list(points.values())),
        color=colour,
        marker=marker,
        markersize=marker_size(marker),
        markerfacecolor=COLOURS["paper"] if hollow else colour,
        markeredgecolor=colour if hollow else COLOURS["paper"],
        markeredgewidth=1.2 if hollow else 0.6,
        linestyle="none" if hollow else "-",
        linewidth=2,
        elinewidth=1.4,
        capsize=3,
    )
    line: Line2D = drawn[0]
    return line


def _one_of_many(axes: Axes, results: Results, points: Mapping[str, Points], name: str, floor: Result | None) -> None:
    """One method in the accent's colour, the baseline dashed and the others in grey behind it."""
    for other, found in points.items():
        if other != name:
            base = other == results.baseline
            colour, style = (COLOURS["soft"], "--") if base else (COLOURS["grey"], "-")
            clean = _clean(found)
            axes.plot([at[0] for at in clean], [each.value or 0.0 for each in clean.values()], style, color=colour, linewidth=1)
    _floor(axes, floor)

    # The method itself; hollow where some of the photos show somebody else.
    places, _ = _places(points)
    bars: dict[str, Any] = {"color": COLOURS["accent"], "marker": "o", "markersize": 5, "elinewidth": 1.2, "capsize": 2.5}
    for line, face, shown in (("-", "accent", _clean(points[name])), ("none", "paper", _mixed(points[name]))):
        values = [each.value or 0.0 for each in shown.values()]
        reaches = _reaches(list(shown.values()))
        axes.errorbar([places[at] for at in shown], values, yerr=reaches, linestyle=line, markerfacecolor=COLOURS[face], **bars)
    axes.set_xticks(list(places.values()), [f"{at[1]} other" if at[1] else str(at[0]) for at in places])


def _scatter(axes: Axes, results: Results, named: Mapping[str, Pair], others: Mapping[str, Pair]) -> None:
    """named: each with its own marker and name. others: blue points, whose names are in the other plot."""
    marks: dict[str, Line2D] = {}
    for x, y in others.values():
        marks["methods"] = _cross(axes, x, y, COLOURS["accent"], "o")
    drawn: dict[str, Line2D] = {}
    for name, (x, y) in named.items():
        colour, marker = series_style(_place(results, name))
        drawn[name] = _cross(axes, x, y, COLOURS["soft"] if others else colour, marker)
    axes.set_xlabel("copy-paste index: 0 a new picture, 1 a copied reference")
    axes.set_ylabel(heading(IDENTITY))
    order = sorted(named, key=lambda name: -(named[name][1].value or 0.0))
    _legend(axes, marks | {name: drawn[name] for name in order}, 8.5)


def _cross(axes: Axes, x: Result, y: Result, colour: str, marker: str) -> Line2D:
    """A point with the intervals of both sides."""
    drawn = axes.errorbar(
        [x.value or 0.0],
        [y.value or 0.0],
        xerr=_reaches([x]),
        yerr=_reaches([y]),
        color=colour,
        marker=marker,
        markersize=marker_size(marker),
        markeredgecolor=COLOURS["paper"],
        markeredgewidth=0.6,
        linestyle="none",
        elinewidth=0.9,
    )
    line: Line2D = drawn[0]
    return line


def _floor(axes: Axes, floor: Result | None) -> dict[str, Line2D]:
    """A dotted line, and its interval as a pale band. Gives the line by its name, or nothing."""
    if floor is None or floor.value is None:
        return {}
    ends = _ends(floor)
    axes.axhspan(min(ends), max(ends), color=COLOURS["rule"], alpha=0.5, linewidth=0)
    return {FLOOR: axes.axhline(floor.value, color=COLOURS["soft"], linestyle=":", linewidth=1.4)}


def _legend(axes: Axes, marks: Mapping[str, Line2D], size: float) -> None:
    """At the right of the plot, in this order, without intervals."""
    shown = [name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}" for name in marks]
    axes.legend(list(marks.values()), shown, loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=size, borderaxespad=0)


def _places(points: Mapping[str, Points]) -> tuple[dict[Condition, float], int]:
    """Where each condition is along the axis, those with photos of another person to the right; and the least step."""
    conditions = {at for found in points.values() for at in found}
    counts = sorted(photos for photos, num_impostors in conditions if not num_impostors)
    step = min(b - a for a, b in pairwise(counts))
    mixed = sorted(at for at in conditions if at[1])
    apart = {at: counts[-1] + step * (1.4 + place) for place, at in enumerate(mixed)}
    return {(count, 0): float(count) for count in counts} | apart, step


def _clean(points: Points) -> Points:
    """All photos show the person."""
    return {at: each for at, each in points.items() if not at[1]}


def _mixed(points: Points) -> Points:
    """Some photos show another person."""
    return {at: each for at, each in points.items() if at[1]}


def _by_last(points: Mapping[str, Points]) -> list[str]:
    """Methods from the highest to the lowest at the most photos."""
    last = {name: found[max(_clean(found) or found)].value or 0.0 for name, found in points.items()}
    return sorted(last, key=lambda name: -last[name])


def _place(results: Results, name: str) -> int:
    """Of a method among the methods, of a control among the controls: the same colour and marker in every plot of a page."""
    return (results.methods if name in results.methods else results.controls).index(name)


def _pair(results: Results, prompt_set: str, name: str) -> Pair | None:
    """Copy-paste index and similarity, where both have a value."""
    found = [results.find(prompt_set, name, metric, results.recognizer.name) for metric in (COPYING, IDENTITY)]
    known = [cell for cell in found if cell is not None and cell.value is not None]
    return (known[0], known[1]) if len(known) == 2 else None


def _ends(each: Result) -> list[float]:
    """The value and its interval, what there is of them."""
    return [end for end in (each.low, each.value, each.high) if end is not None]


def _reaches(cells: Sequence[Result]) -> list[list[float]]:
    """How far the intervals reach below and above the values, as matplotlib wants it; 0 where there is none."""
    below = [(cell.value or 0.0) - min(_ends(cell)) for cell in cells]
    return [below, [max(_ends(cell)) - (cell.value or 0.0) for cell in cells]]
