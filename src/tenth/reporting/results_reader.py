"""run.json of an experiment as the report reads it: checked once, then looked up by what a table asks for."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from tenth.core.config import from_table
from tenth.core.errors import DataError, RecipeError
from tenth.reporting.differences import in_both_directions

KINDS = ("experiment", "benchmark")  # of records that have results
FORMAT = 4  # of `results` in run.json
IDENTITY = "identity-similarity"  # the metric that methods are compared by
MAX_NUMBER = 1e9  # in a record: what is larger is none of ours, and no axis or column holds it
MAX_ENTRIES = 200  # methods, metrics, recognizers, prompt sets or conditions
# Rows of a table that are not methods: what a score means is read off them. In the order in which they are shown.
CONTROLS = ("real photos", "verbatim copies", "average of the references", "another person", "no identity")
FLOOR = CONTROLS[-1]  # what a method without any information about the person would reach

CONFIG = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)
Number = Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
Count = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Condition = tuple[int, int]  # num_photos, num_impostors


@dataclass(frozen=True, config=CONFIG)
class Result:
    """One cell: a metric of a method under a condition. raw: the same on images as generated, before LFW's codec."""

    prompt_set: str
    num_photos: Count
    method: str
    metric: str
    num_impostors: Count = 0
    recognizer: str = ""
    value: Number | None = None
    low: Number | None = None
    high: Number | None = None
    n: Count = 0
    unavailable: str = ""
    raw: Number | None = None


class Estimate(NamedTuple):
    """A value and its interval, both of whose ends are the value where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, config=CONFIG)
class Difference:
    """Method minus baseline, over n people that both have. p_holm: corrected for the number of comparisons, None if not."""

    prompt_set: str
    num_photos: Count
    method: str
    baseline: str
    metric: str
    value: Number
    num_impostors: Count = 0
    recognizer: str = ""
    low: Number | None = None
    high: Number | None = None
    p_value: Number | None = None
    p_holm: Number | None = None
    win_rate: Number | None = None
    n: Count = 0


@dataclass(frozen=True, config=CONFIG)
class Recognizer:
    """A face recognizer. selection_only: a method is conditioned on it, so what it says is no result."""

    name: str
    licence: str = ""
    threshold: Number | None = None
    selection_only: bool = False


@dataclass(frozen=True, config=CONFIG)
class System:
    """What a row was measured on: the model in words, and the size of its images in pixels."""

    method: str
    model: str = ""
    width: Count | None = None
    height: Count | None = None


@dataclass(frozen=True, config=CONFIG)
class IntervalEstimate:
    """A value over n people, with its interval."""

    value: Number
    low: Number | None = None
    high: Number | None = None
    n: Count = 0

    @property
    def estimate(self) -> Estimate:
        """Both ends are the value where there is no interval."""
        return Estimate(self.value, *(self.value if end is None else end for end in (self.low, self.high)))


@dataclass(frozen=True, config=CONFIG)
class Agreement:
    """How alike two recognizers rank the methods: by their means over people, and for one person, averaged over people."""

    prompt_set: str
    num_photos: Count
    recognizer: str
    other: str
    num_methods: Count
    between_methods: IntervalEstimate
    per_person: IntervalEstimate
    num_impostors: Count = 0


@dataclass(frozen=True, config=CONFIG)
class Cost:
    """What a method takes of time and memory, for an identity and an image."""

    method: str
    seconds_per_person: Number | None = None
    seconds_per_image: Number | None = None
    peak_memory_mb: Number | None = None


@dataclass(frozen=True, config=CONFIG)
class Failure:
    """A person for whom a method gave no identity."""

    method: str
    person: str
    reason: str


@dataclass(frozen=True, config=CONFIG)
class PromptSet:
    """Prompts, and the number of images by each method of each person."""

    prompts: tuple[str, ...] = ()
    images: Count = 0


@dataclass(frozen=True, config=CONFIG)
class Results:
    """All of a record. The main condition is the one with the most photos, none of them an impostor's.

    declared, baselines: the recipe's methods, and those of them that others are compared with. notes: of a method's row.
    row_people: whom each row is of, where rows may be of different people.
    """

    scores: tuple[Result, ...] = ()
    differences: tuple[Difference, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    recognizers: tuple[Recognizer, ...] = ()
    costs: tuple[Cost, ...] = ()
    failed: tuple[Failure, ...] = ()
    prompt_sets: Mapping[str, PromptSet] = Field(default_factory=dict)
    people: tuple[str, ...] = ()
    systems: tuple[System, ...] = ()
    row_people: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    notes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    disclaimer: str = ""
    seconds: Annotated[float, Field(ge=0, le=MAX_NUMBER)] | None = None
    declared: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    settings: Mapping[str, Any] = Field(default_factory=dict)
    environment: Mapping[str, Any] = Field(default_factory=dict)
    written: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Methods in the recipe's order, then whatever else was scored."""
        scored = dict.fromkeys(result.method for result in self.scores)
        return tuple(dict.fromkeys([*(name for name in self.declared if name in scored), *scored]))

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """What is compared: all that is no control."""
        return tuple(name for name in self.names if name not in CONTROLS)

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """What it is compared with, in their fixed order."""
        return tuple(name for name in CONTROLS if name in self.names)

    @cached_property
    def partial(self) -> dict[str, tuple[int, int]]:
        """Methods that lack people whom others by the recognizer have: of how many they are, and how many there are."""
        measured = {r.method for r in self.scores if (r.metric, r.recognizer) == (IDENTITY, self.recognizer.name)}
        people = {name: set(own) for name, own in self.row_people.items() if name in measured}
        everybody = set[str]().union(*people.values())
        return {name: (len(own), len(everybody)) for name, own in people.items() if everybody - own}

    @cached_property
    def scored(self) -> tuple[str, ...]:
        """The prompt sets that have a score, in the order of the scores: the neutral one first."""
        return tuple(dict.fromkeys(result.prompt_set for result in self.scores))

    @property
    def baseline(self) -> str:
        """The method that others are compared with: the recipe's first of `baselines`, else its first method."""
        return next((name for name in self.baselines if name in self.methods), self.methods[0])

    @property
    def recognizer(self) -> Recognizer:
        """The evaluation recognizer; without one the first."""
        ordered = sorted(self.recognizers, key=lambda recognizer: recognizer.selection_only)
        return ordered[0] if ordered else Recognizer("", selection_only=True)

    def system(self, method: str) -> System:
        """What a row was measured on, as far as the record says."""
        return next((system for system in self.systems if system.method == method), System(method))

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """Of the methods' scores: fewest photos first, those with impostor photos last."""
        found = {(result.num_photos, result.num_impostors) for result in self.scores if result.method in self.methods}
        return tuple(sorted(found, key=lambda condition: (condition[1], condition[0])))

    @property
    def main(self) -> Condition:
        """The condition of the tables."""
        return max((condition for condition in self.conditions if not condition[1]), default=self.conditions[-1])

    def find(
        self, prompt_set: str, method: str, metric: str = IDENTITY, at: Condition | None = None, recognizer: str | None = None
    ) -> Result | None:
        """A cell, at the main condition and by the evaluation recognizer unless told; it may have no value.

        Metrics that need no recognizer are found whatever it is. Controls are recorded at the main condition and hold for all.
        """
        recognizer = self.recognizer.name if recognizer is None else recognizer
        condition = self.main if at is None or method in CONTROLS else at
        keys = ((prompt_set, condition, method, metric, name) for name in (recognizer, ""))
        return next((self._cells[key] for key in keys if key in self._cells), None)

    def measured(self, prompt_set: str, method: str, metric: str = IDENTITY, at: Condition | None = None) -> Estimate | None:
        """The cell's value with its interval, if it has a value."""
        cell = self.find(prompt_set, method, metric, at)
        if cell is None or cell.value is None:
            return None
        low, high = (cell.value if end is None else end for end in (cell.low, cell.high))
        return Estimate(cell.value, low, high)

    def difference(self, prompt_set: str, method: str, baseline: str) -> Difference | None:
        """Of the similarity at the main condition, turned around where it is recorded the other way."""
        return self._differences.get(((prompt_set, self.main, self.recognizer.name), method, baseline))

    @cached_property
    def _cells(self) -> dict[tuple[object, ...], Result]:
        return {(r.prompt_set, (r.num_photos, r.num_impostors), r.method, r.metric, r.recognizer): r for r in self.scores}

    @cached_property
    def _differences(self) -> dict[tuple[Hashable, str, str], Difference]:
        found = (each for each in self.differences if each.metric == IDENTITY)
        return in_both_directions(((d.prompt_set, (d.num_photos, d.num_impostors), d.recognizer), d) for d in found)


def read_results(record: Mapping[str, Any]) -> Results:
    """The results in a record of `tenth experiment` or `tenth benchmark`. Raises DataError for anything else."""
    found, settings = record.get("results"), record.get("settings") or {}
    if record.get("kind") not in KINDS or not isinstance(found, Mapping) or not isinstance(settings, Mapping):
        raise _no_record(f"the record is of kind {record.get('kind')!r:.100}")
    if found.get("format") != FORMAT:
        raise _no_record(f"its results are of format {found.get('format')!r:.100} and this version reads {FORMAT}")

    # What the recipe and the machine add to the results.
    table = {**found, "declared": settings.get("methods") or (), "baselines": settings.get("baselines") or ()}
    table |= {"settings": settings, "environment": record.get("environment") or {}, "written": record.get("written") or ""}
    try:
        results = from_table(Results, table, "its results")
    except RecipeError as problem:
        raise _no_record(f"{problem.found}, {problem.needed}") from None

    # Enough for a table, and not too much for a page.
    if not results.methods:
        raise _no_record("its results have no score of a method")
    metrics = {result.metric for result in results.scores}
    for many in (results.names, metrics, results.recognizers, results.scored, results.prompt_sets, results.conditions):
        if len(many) > MAX_ENTRIES:
            raise _no_record(f"its results are of {len(many)} methods, metrics, recognizers, prompt sets or conditions")
    return results


def _no_record(found: str) -> DataError:
    return DataError(found, "a record that `tenth experiment` wrote is needed", "Give its run.json, or the folder it is in")
