"""The frontier in run.json as the report reads it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from tenth.core.config import from_table
from tenth.core.errors import DataError, RecipeError
from tenth.reporting.differences import in_both_directions
from tenth.reporting.results_reader import CONFIG, MAX_ENTRIES, IntervalEstimate, Number, Results

MAX_POINTS = 1_000  # settings of a method


@dataclass(frozen=True, config=CONFIG)
class Point:
    """A setting: how well the prompt is obeyed and the person kept. None: the method's images do not depend on it."""

    prompt: IntervalEstimate
    person: IntervalEstimate
    text_guidance_scale: Number | None = None
    ip_adapter_scale: Number | None = None
    on_frontier: bool = False

    @property
    def setting(self) -> str:
        """In words."""
        if self.text_guidance_scale is None or self.ip_adapter_scale is None:
            return "its own"
        return f"text guidance {self.text_guidance_scale:g}, adapter scale {self.ip_adapter_scale:g}"


@dataclass(frozen=True, config=CONFIG)
class MethodFrontier:
    """A method's points, and the area under those that no other beats."""

    method: str
    area: IntervalEstimate
    points: Annotated[tuple[Point, ...], Field(min_length=1, max_length=MAX_POINTS)]


@dataclass(frozen=True, config=CONFIG)
class AreaDifference:
    """Area of a method minus that of a baseline. p_holm: corrected for all pairs."""

    method: str
    baseline: str
    value: Number
    low: Number | None = None
    high: Number | None = None
    p_value: Number | None = None
    p_holm: Number | None = None


@dataclass(frozen=True, config=CONFIG)
class Frontier:
    """The frontiers of a prompt set's methods by one recognizer. unavailable: why there are none."""

    prompt_set: str
    prompt_metric: str
    recognizer: str
    methods: Annotated[tuple[MethodFrontier, ...], Field(max_length=MAX_ENTRIES)] = ()
    differences: tuple[AreaDifference, ...] = ()
    reference_point: tuple[Number, Number] = (0.0, 0.0)
    unavailable: str = ""

    def difference(self, method: str, baseline: str) -> AreaDifference | None:
        """Turned around where it is recorded the other way."""
        return self._differences.get((None, method, baseline))

    @cached_property
    def _differences(self) -> dict[tuple[Hashable, str, str], AreaDifference]:
        return in_both_directions((None, each) for each in self.differences)


@dataclass(frozen=True, config=CONFIG)
class Frontiers:
    """All that a record has: one by each recognizer."""

    frontiers: Annotated[tuple[Frontier, ...], Field(max_length=MAX_ENTRIES)] = ()


def read_frontier(record: Mapping[str, Any], results: Results) -> Frontier | None:
    """The frontier by the evaluation recognizer, of the methods that the record has scores of; None if it was not measured.

    Raises DataError for what is no frontier.
    """
    try:
        frontiers = from_table(Frontiers, record["results"], "its results").frontiers
    except RecipeError as problem:
        action = "Give its run.json, or the folder it is in"
        raise DataError(
            f"{problem.found}, {problem.needed}", "a record that `tenth experiment` wrote is needed", action
        ) from None
    found = next((each for each in frontiers if each.recognizer == results.recognizer.name), None)
    return found and replace(found, methods=tuple(each for each in found.methods if each.method in results.methods))
