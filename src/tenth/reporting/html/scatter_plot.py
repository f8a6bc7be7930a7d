"""Identity against the copy index: whether a likeness is a likeness or a copied photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenth.reporting.axis import tick_text, ticks
from tenth.reporting.html.elements import Markup, element
from tenth.reporting.metric_columns import number
from tenth.reporting.results_reader import Result, Results

WIDTH, HEIGHT = 620, 420
LEFT, TOP, RIGHT, BOTTOM = 52, 16, 420, 372  # of the plot; labels are at its right
LABELS, STEP = 440, 17  # where labels begin, and how far apart they are
LONGEST = 25  # letters of a label; of a longer name, as of a path, the end is shown

Point = tuple[Result, Result]  # copy index, identity


@dataclass(frozen=True)
class Axes:
    """Where values are: x is the copy index, y the identity."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    def x(self, value: float | None) -> float:
        return LEFT + _share(value, self.x_ticks) * (RIGHT - LEFT)

    def y(self, value: float | None) -> float:
        return BOTTOM - _share(value, self.y_ticks) * (BOTTOM - TOP)

    def at(self, point: Point) -> tuple[float, float]:
        return self.x(point[0].value), self.y(point[1].value)


def scatter(results: Results, track: str) -> Markup | None:
    """Two pictures side by side: methods between the controls, and the methods alone, enlarged. None if nothing has both."""
    points = {name: point for name in results.names if (point := _point(results, track, name)) is not None}
    methods = {name: point for name, point in points.items() if name in results.methods}
    controls = {name: point for name, point in points.items() if name not in methods}
    if not methods:
        return None
    alone = _figure("The methods" + " alone, enlarged" * bool(controls), methods, {})
    whole = _figure("The methods (blue) between their controls", controls, methods) if controls else None
    return element("div", whole, alone, class_="pictures")


def _point(results: Results, track: str, name: str) -> Point | None:
    found = [results.find(track, name, metric, results.judge.name) for metric in ("copy-index", "identity")]
    known = [cell for cell in found if cell is not None and cell.value is not None]
    return (known[0], known[1]) if len(known) == 2 else None


def _figure(title: str, labelled: Mapping[str, Point], plain: Mapping[str, Point]) -> Markup:
    """labelled: with their names. plain: dots alone, whose names are in the other picture."""
    every = [*labelled.values(), *plain.values()]
    axes = Axes(*(ticks(*_reach([point[side] for point in every])) for side in (0, 1)))
    heights = spread([axes.at(point)[1] for point in labelled.values()], STEP, TOP + 8, BOTTOM)
    kind = "control" if plain else "method"
    said = "; ".join(f"{name}: identity {_number(y)}, copy index {_number(x)}" for name, (x, y) in labelled.items())
    drawing = element(
        "svg",
        _grid(axes),
        [_bars(axes, point, kind) for point in labelled.values()],
        [_bars(axes, point, "method") for point in plain.values()],
        [_dot(axes, point, "method") for point in plain.values()],
        [_label(axes.at(point), name, height) for (name, point), height in zip(labelled.items(), heights, strict=True)],
        [_dot(axes, point, kind) for point in labelled.values()],
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}. {said}",
    )
    scrolling = element("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=title)
    return element("figure", element("figcaption", element("b", title)), scrolling)


def _reach(cells: Sequence[Result]) -> tuple[float, float]:
    ends = [end for cell in cells for end in (cell.low, cell.value, cell.high) if end is not None]
    return min(ends), max(ends)


def _grid(axes: Axes) -> list[Markup]:
    made = []
    for tick in axes.x_ticks:
        x = axes.x(tick)
        made.append(element("path", d=f"M{x:.1f} {TOP}V{BOTTOM}", class_="rule"))
        made.append(element("text", tick_text(tick, axes.x_ticks), x=x, y=BOTTOM + 17, class_="middle"))
    for tick in axes.y_ticks:
        y = axes.y(tick)
        made.append(element("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="rule"))
        made.append(element("text", tick_text(tick, axes.y_ticks), x=LEFT - 7, y=y + 4, class_="end"))
    middle = (TOP + BOTTOM) / 2
    across = "copy index: 0 a new photo, 1 a copied reference"
    made.append(element("text", across, x=(LEFT + RIGHT) / 2, y=HEIGHT - 8, class_="middle axis"))
    turned = f"rotate(-90 12 {middle:.0f})"
    made.append(element("text", "identity", x=12, y=middle, class_="middle axis", transform=turned))
    return made


def _bars(axes: Axes, point: Point, kind: str) -> list[Markup]:
    """The intervals of both, as a thin cross."""
    (x, y), made = axes.at(point), []
    copy, identity = point
    if copy.low is not None and copy.high is not None:
        made.append(element("path", d=f"M{axes.x(copy.low):.1f} {y:.1f}H{axes.x(copy.high):.1f}", class_=f"bar {kind}"))
    if identity.low is not None and identity.high is not None:
        made.append(element("path", d=f"M{x:.1f} {axes.y(identity.low):.1f}V{axes.y(identity.high):.1f}", class_=f"bar {kind}"))
    return made


def _dot(axes: Axes, point: Point, kind: str) -> Markup:
    x, y = axes.at(point)
    return element("circle", cx=x, cy=y, r=4.0, class_=f"dot {kind}")


def _label(at: tuple[float, float], name: str, height: float) -> list[Markup]:
    """The name at the right, and a thin line to it, level at both ends so that it can be followed."""
    x, y = at
    line = f"M{x:.1f} {y:.1f}L{max(x, RIGHT):.1f} {y:.1f}L{LABELS - 6} {height:.1f}"
    shown = name if len(name) <= LONGEST else f"…{name[-LONGEST + 1 :]}"
    return [element("path", d=line, class_="leader"), element("text", shown, x=LABELS, y=height + 4, class_="label")]


def _share(value: float | None, along: Sequence[float]) -> float:
    return ((value or 0.0) - along[0]) / (along[-1] - along[0])


def _number(cell: Result) -> str:
    return number(cell.value or 0.0, 3)


def spread(wanted: Sequence[float], step: float, top: float, bottom: float) -> list[float]:
    """Heights at least `step` apart, in the order of the wanted ones, between top and bottom if that many fit.

    Neighbours that are too near are a block, which stands where its labels want to be on the average.
    """
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    blocks: list[list[int]] = []
    for place in order:
        blocks.append([place])
        while len(blocks) > 1 and _top(blocks[-2], wanted, step) + step * len(blocks[-2]) > _top(blocks[-1], wanted, step):
            last = blocks.pop()
            blocks[-1] += last
    heights, least = [0.0] * len(wanted), top
    for position, block in enumerate(blocks):
        below = sum(len(other) for other in blocks[position:])
        first = max(least, min(_top(block, wanted, step), bottom - step * (below - 1)))
        for row, place in enumerate(block):
            heights[place] = first + step * row
        least = first + step * len(block)
    return heights


def _top(block: Sequence[int], wanted: Sequence[float], step: float) -> float:
    """Where the first label of a block stands."""
    middle = sum(wanted[place] for place in block) / len(block)
    return middle - step * (len(block) - 1) / 2
