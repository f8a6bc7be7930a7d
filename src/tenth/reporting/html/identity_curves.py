"""Identity over the number of photos: a small picture for each method, all on the same scale, the others in grey behind it.

Nine lines whose intervals overlap cannot be read in one picture; nine pictures can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenth.reporting.axis import tick_text, ticks
from tenth.reporting.html.elements import Markup, element
from tenth.reporting.metric_columns import condition_text, interval, number
from tenth.reporting.results_reader import Result, Results

WIDTH, HEIGHT = 300, 190
LEFT, RIGHT, TOP, BOTTOM = 38, 252, 12, 162  # of the plot
APART = 54  # width of a condition with wrong photos, at the right of the numbers
FLOOR = "no identity"

Condition = tuple[int, int]
Points = Mapping[Condition, Result]


@dataclass(frozen=True)
class Frame:
    """Where values are. right: the conditions without a wrong photo, apart: those with."""

    right: Sequence[Condition]
    apart: Sequence[Condition]
    ticks: Sequence[float]

    def x(self, condition: Condition) -> float:
        if condition in self.apart:
            return RIGHT - APART * (len(self.apart) - self.apart.index(condition) - 0.5)
        first, last = self.right[0][0], self.right[-1][0]
        return LEFT + 12 + (condition[0] - first) / (last - first) * (RIGHT - APART * len(self.apart) - LEFT - 24)

    def y(self, value: float | None) -> float:
        low, high = self.ticks[0], self.ticks[-1]
        return BOTTOM - ((value or 0.0) - low) / (high - low) * (BOTTOM - TOP)


def panels(results: Results, track: str) -> Markup | None:
    """A figure for each method, or None if identity was measured with one number of photos only."""
    points = {name: points_of(results, track, name) for name in results.methods}
    points = {name: found for name, found in points.items() if found}
    conditions = [condition for condition in results.conditions if any(condition in found for found in points.values())]
    right = [condition for condition in conditions if not condition[1]]
    if len(right) < 2:
        return None
    floor = results.find(track, FLOOR, "identity", results.judge.name)
    ends = [end for found in points.values() for each in found.values() for end in (each.low, each.value, each.high)]
    known = [end for end in (*ends, floor.value if floor else None) if end is not None]
    frame = Frame(right, [condition for condition in conditions if condition[1]], ticks(min(known), max(known)))
    figures = [_figure(frame, name, points, results.baseline, floor) for name in points]
    return element("div", figures, class_="panels")


def points_of(results: Results, track: str, name: str) -> dict[Condition, Result]:
    """A method's identity under each condition where it has a value."""
    found = {at: results.find(track, name, "identity", results.judge.name, at) for at in results.conditions}
    return {at: each for at, each in found.items() if each is not None and each.value is not None}


def _figure(frame: Frame, name: str, points: Mapping[str, Points], baseline: str, floor: Result | None) -> Markup:
    mine, last = points[name], max(points[name], key=lambda at: (-at[1], at[0]))
    said = ", ".join(f"{number(each.value or 0, 3)} with {condition_text(at)}" for at, each in mine.items())
    others = [_line(frame, found, "base" if other == baseline else "other") for other, found in points.items() if other != name]
    drawing = element(
        "svg",
        _axes(frame),
        _floor(frame, floor),
        others,
        _band(frame, mine),
        _line(frame, mine, "line"),
        [_point(frame, at, each) for at, each in mine.items()],
        element("text", number(mine[last].value or 0, 3), x=RIGHT + 6, y=frame.y(mine[last].value) + 4, class_="value"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{name}: {said}",
    )
    note = f" {condition_text(last)} {interval(mine[last].low, mine[last].high, 3)}"
    return element("figure", element("figcaption", element("b", name), element("small", note)), drawing)


def _axes(frame: Frame) -> list[Markup]:
    lines = []
    for tick in frame.ticks:
        y = frame.y(tick)
        lines.append(element("path", d=f"M{LEFT} {y:.1f}H{RIGHT}", class_="rule"))
        lines.append(element("text", tick_text(tick, frame.ticks), x=LEFT - 6, y=y + 4, class_="end"))
    for photos, wrong in (*frame.right, *frame.apart):
        text = f"{wrong} wrong" if wrong else str(photos)
        lines.append(element("text", text, x=frame.x((photos, wrong)), y=BOTTOM + 18, class_="middle"))
    return lines


def _floor(frame: Frame, floor: Result | None) -> Markup | None:
    if floor is None or floor.value is None:
        return None
    return element("path", d=f"M{LEFT} {frame.y(floor.value):.1f}H{RIGHT}", class_="floor")


def _line(frame: Frame, points: Points, class_: str) -> Markup:
    places = [f"{frame.x(at):.1f} {frame.y(each.value):.1f}" for at, each in points.items() if at in frame.right]
    return element("path", d="M" + "L".join(places), class_=class_) if places else Markup("")


def _band(frame: Frame, points: Points) -> Markup | None:
    """The interval, where there is one at each point of the line."""
    inside = [(at, each) for at, each in points.items() if at in frame.right and each.low is not None and each.high is not None]
    above = [f"{frame.x(at):.1f} {frame.y(each.high):.1f}" for at, each in inside]
    below = [f"{frame.x(at):.1f} {frame.y(each.low):.1f}" for at, each in reversed(inside)]
    return element("path", d="M" + "L".join(above + below) + "Z", class_="band") if inside else None


def _point(frame: Frame, at: Condition, each: Result) -> list[Markup]:
    x, y = frame.x(at), frame.y(each.value)
    made = [element("circle", cx=x, cy=y, r=3.2, class_="hollow" if at in frame.apart else "dot")]
    if at in frame.apart and each.low is not None and each.high is not None:
        made.insert(0, element("path", d=f"M{x:.1f} {frame.y(each.low):.1f}V{frame.y(each.high):.1f}", class_="bar"))
    return made
