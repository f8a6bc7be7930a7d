"""The frontier as a plot: prompt obeyed to the right, person kept upwards; all methods in one, and each method alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.errors import DataError
from tenth.core.files.writing import write_bytes
from tenth.core.wording import pluralize
from tenth.reporting.frontier.record import Frontier, MethodFrontier, Point, read_frontier
from tenth.reporting.metric_columns import condition_text, heading, interval, label, number, short
from tenth.reporting.plot_style import COLORS, figure_bytes, inline_svg, styled_figure
from tenth.reporting.plots import Plot, legend, method_style, reaches
from tenth.reporting.results_reader import FLOOR, IDENTITY, Results, read_results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Corner = tuple[float, float]


def write_frontier(record: Mapping[str, Any], path: Path, *, new: bool = False) -> None:
    """All methods' frontiers in one plot: 1200 x 800 pixels, or an SVG where `path` ends so.

    new: nothing is replaced. Raises DataError for a record without a frontier, InputError without matplotlib, CheckpointError
    if a new file is there already.
    """
    results = read_results(record)
    frontier = read_frontier(record, results)
    if frontier is None or not frontier.methods:
        found = f"a record without a frontier{f' ({frontier.unavailable})' if frontier else ''}"
        raise DataError(found, "the recipe must ask for one", "Add [frontier] to the recipe (docs/experiments.md)")
    with styled_figure(12, 8) as figure:
        axes = figure.add_axes((0.075, 0.1, 0.6, 0.74))
        lines = _all_methods(axes, results, frontier)
        legend(axes, lines, 11)
        axes.tick_params(labelsize=12)
        axes.set_xlabel(heading(frontier.prompt_metric), fontsize=12)
        axes.set_ylabel(heading(IDENTITY), fontsize=12)
        figure.text(0.075, 0.945, "The prompt against the person", fontsize=19)
        figure.text(0.075, 0.875, _note(results, frontier), fontsize=11, color=COLORS["soft"])
        suffix = ".svg" if path.suffix.lower() == ".svg" else ".png"
        write_bytes(path, figure_bytes(figure, suffix), no_overwrite=new)


def frontier_plots(results: Results, frontier: Frontier) -> list[Plot]:
    """A plot for each method on one scale: its settings and its frontier, the other methods' frontiers in grey."""
    plots = []
    for index, method in enumerate(frontier.methods):
        with styled_figure(4.6, 3.1, salt=f"frontier {index}") as figure:
            axes = figure.add_axes((0.13, 0.15, 0.83, 0.82))
            _limits(axes, frontier)
            for other in frontier.methods:
                if other != method:
                    dashes = "--" if other.method == results.baseline else "-"
                    _staircase(axes, frontier, other, {"color": COLORS["grey"], "linewidth": 1, "linestyle": dashes})
            style = {"color": COLORS["accent"], "marker": "o", "markersize": 5, "elinewidth": 0.8}
            _staircase(axes, frontier, method, {"color": COLORS["accent"], "linewidth": 1.4})
            _points(axes, method.points, style)
            _name_settings(axes, method.points, COLORS["soft"], 7.5)
            axes.set_xlabel(label(frontier.prompt_metric))
            axes.set_ylabel(label(IDENTITY))
            area = f"{number(method.area.value, 3)} {interval(method.area.low, method.area.high, 3)}".rstrip()
            text = "; ".join(
                f"{point.setting}: {number(point.prompt.value, 3)}, {number(point.person.value, 3)}" for point in method.points
            )
            plots.append(Plot(method.method, f"area {area}", inline_svg(figure, f"{method.method}: {text}")))
    return plots


def _all_methods(axes: Axes, results: Results, frontier: Frontier) -> dict[str, Line2D]:
    """Points and frontiers of all methods, and how well the prompt is obeyed without a person. Gives the legend's lines."""
    _limits(axes, frontier)
    lines = {}
    for method in sorted(frontier.methods, key=lambda each: -each.area.value):
        style = {**method_style(results, method.method), "elinewidth": 0.8}
        _staircase(axes, frontier, method, {"color": style["color"], "linewidth": 1.8})
        area = f"{number(method.area.value, 3)} {interval(method.area.low, method.area.high, 3)}"
        lines[f"{method.method}\n{area}"] = _points(axes, method.points, style)
        _name_settings(axes, method.points, style["color"], 9.5)
    alone = results.measured(frontier.prompt_set, FLOOR, frontier.prompt_metric)
    if alone is not None:
        lines[f"{FLOOR}: the prompt alone"] = axes.axvline(alone.value, color=COLORS["soft"], linestyle=":", linewidth=1.4)
    return lines


def _points(axes: Axes, points: Iterable[Point], style: dict[str, Any]) -> Line2D:
    """Those on the frontier filled, with their intervals; the others hollow and without. Gives the filled ones."""
    best, others = ([point for point in points if point.on_frontier == which] for which in (True, False))
    hollow = {key: value for key, value in style.items() if key != "elinewidth"}
    hollow |= {"markerfacecolor": COLORS["paper"], "markeredgecolor": style["color"], "markeredgewidth": 1}
    axes.plot([p.prompt.value for p in others], [p.person.value for p in others], linestyle="none", **hollow)
    bars: Any = axes.errorbar(
        [point.prompt.value for point in best],
        [point.person.value for point in best],
        xerr=reaches(point.prompt.estimate for point in best),
        yerr=reaches(point.person.estimate for point in best),
        linestyle="none",
        **style,
    )
    for each in bars[2]:
        each.set_alpha(0.35)
    line: Line2D = bars[0]
    return line


def _staircase(axes: Axes, frontier: Frontier, method: MethodFrontier, style: dict[str, Any]) -> None:
    """The edge of what a method's settings reach: whatever is left of it and below has a setting that is as good."""
    corners = _corners(method, frontier.reference_point)
    axes.plot([x for x, _ in corners], [y for _, y in corners], **style)


def _corners(method: MethodFrontier, reference: Corner) -> list[Corner]:
    """From the reference point's height at the left, by the best points in their order, down to it."""
    best = sorted((point.prompt.value, point.person.value) for point in method.points if point.on_frontier)
    corners, left = [], reference[0]
    for x, y in best:
        corners += [(left, y), (x, y)]
        left = x
    return [*corners, (left, reference[1])]


def _name_settings(axes: Axes, points: Iterable[Point], color: str, size: float) -> None:
    """Beside each point of the frontier its text guidance and adapter scale."""
    for point in points:
        if point.on_frontier and point.text_guidance_scale is not None:
            text = f"{point.text_guidance_scale:g} / {point.ip_adapter_scale:g}"
            at = (point.prompt.value, point.person.value)
            ground = {"facecolor": COLORS["paper"], "edgecolor": "none", "pad": 0.3, "alpha": 0.6}  # lines do not cross it
            axes.annotate(text, at, (5, 5), textcoords="offset points", fontsize=size, color=color, bbox=ground)


def _limits(axes: Axes, frontier: Frontier) -> None:
    """Around all points: the reference point is far from them."""
    points = [point for method in frontier.methods for point in method.points]
    for name, means in (("x", [point.prompt for point in points]), ("y", [point.person for point in points])):
        values = [mean.value for mean in means]
        margin = 0.12 * ((max(values) - min(values)) or 1.0)
        axes.set(**{f"{name}lim": (min(values) - margin, max(values) + margin)})


def _note(results: Results, frontier: Frontier) -> str:
    """What the plot is of, below its title."""
    real = results.measured(frontier.prompt_set, "real photos")
    settings = pluralize(max(len(method.points) for method in frontier.methods), "setting")
    people = f"{pluralize(len(results.people), 'person')}, {condition_text(results.main)}"
    known = f" Real photos: {label(IDENTITY)} {number(real.value, 3)}." if real else ""
    prompt, person = (f"{end:g}" for end in frontier.reference_point)
    return (
        f"{settings} of text guidance and adapter scale, means over {people}; bars and brackets: 95 % intervals.\n"
        "Filled, with text guidance / adapter scale: no other setting of the method is as good in both. "
        f"Numbers: area below the line, above ({prompt}, {person}).\n"
        f"Recognizer: {short(results.recognizer.name)}.{known}"
    )
