"""run.json of an experiment as the report reads it: checked once, then looked up by what a table asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from tenth.core.config import config_dataclass, from_table
from tenth.core.errors import DataError, RecipeError

FORMAT = 4  # of `results` in run.json
IDENTITY = "identity-similarity"  # the metric that methods are compared by
LARGEST = 1e9  # of a number in a record: what is larger is none of ours, and no axis or column holds it
MOST = 200  # methods, metrics, recognizers, prompt_sets or conditions
# Rows of a table that are not methods: what a score means is read off them. In the order in which they are shown.
CONTROLS = ("real photos", "verbatim copies", "average of the references", "another person", "no identity")
Row = TypeVar("Row")


@config_dataclass
class Result:
    """One cell: a metric of a method under a condition. raw: the same on images as generated, before LFW's codec."""

    prompt_set: str
    num_photos: int
    method: str
    metric: str
    num_impostors: int = 0
    recognizer: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unavailable: str = ""
    raw: float | None = None


@config_dataclass
class Difference:
    """A method minus another, person by person. p_holm: corrected for the number of comparisons, None where it is not."""

    prompt_set: str
    num_photos: int
    method: str
    baseline: str
    metric: str
    value: float
    num_impostors: int = 0
    recognizer: str = ""
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    win_rate: float | None = None


@config_dataclass
class Recognizer:
    """A face recognizer. selection_only: a method is conditioned on it, so what it says is no result."""

    name: str
    licence: str = ""
    threshold: float | None = None
    selection_only: bool = False
    note: str = ""


@config_dataclass
class Cost:
    """What a method takes: to learn one person, to draw one image, and of memory."""

    method: str
    seconds_per_person: float | None = None
    seconds_per_image: float | None = None
    peak_memory_mb: float | None = None


@config_dataclass
class Failure:
    """A person for whom a method gave nothing."""

    method: str
    person: str
    reason: str


@config_dataclass
class PromptSet:
    """Prompts, and images by each method of each person."""

    prompts: tuple[str, ...] = ()
    images: int = 0


@dataclass(frozen=True)
class Results:
    """All of a record. The main condition is the one with the most photos, none of them num_impostors."""

    scores: Sequence[Result]
    differences: Sequence[Difference]
    recognizers: Sequence[Recognizer]
    costs: Sequence[Cost]
    failed: Sequence[Failure]
    prompt_sets: Mapping[str, PromptSet]
    people: Sequence[str]
    disclaimer: str = ""
    seconds: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    written: str = ""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Methods in the recipe's order, then whatever else was scored."""
        declared = [str(name) for name in self.settings.get("methods") or ()]
        found = dict.fromkeys(result.method for result in self.scores)
        return (*(name for name in declared if name in found), *(name for name in found if name not in declared))

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """What is compared: all that is no control."""
        return tuple(name for name in self.names if name not in CONTROLS)

    @cached_property
    def controls(self) -> tuple[str, ...]:
        """What it is compared with, in their fixed order."""
        return tuple(name for name in CONTROLS if name in self.names)

    @cached_property
    def scored(self) -> tuple[str, ...]:
        """The prompt_sets that have a score, in the order of the scores: the neutral one first."""
        return tuple(dict.fromkeys(result.prompt_set for result in self.scores))

    @property
    def baseline(self) -> str:
        """The method that others are measured against: the recipe's first of `baselines`, else its first method."""
        wanted = [str(name) for name in self.settings.get("baselines") or ()]
        return next((name for name in wanted if name in self.methods), self.methods[0])

    @property
    def recognizer(self) -> Recognizer:
        """The evaluation recognizer, else the first."""
        unknown = Recognizer("", selection_only=True)
        return next((each for each in self.recognizers if not each.selection_only), next(iter(self.recognizers), unknown))

    @cached_property
    def conditions(self) -> tuple[tuple[int, int], ...]:
        """(photos, num_impostors) of the methods' scores, fewest photos first, those with num_impostors photos last."""
        found = {(result.num_photos, result.num_impostors) for result in self.scores if result.method in self.methods}
        return tuple(sorted(found, key=lambda condition: (condition[1], condition[0])))

    @property
    def main(self) -> tuple[int, int]:
        """The condition of the tables."""
        return max((condition for condition in self.conditions if not condition[1]), default=self.conditions[-1])

    @cached_property
    def _cells(self) -> dict[tuple[object, ...], Result]:
        return {(r.prompt_set, (r.num_photos, r.num_impostors), r.method, r.metric, r.recognizer): r for r in self.scores}

    def find(
        self, prompt_set: str, method: str, metric: str, recognizer: str = "", at: tuple[int, int] | None = None
    ) -> Result | None:
        """A cell, at the main condition unless told. Metrics that ask no recogniser are found whatever the recognizer.

        A control is the same whatever a method is given, so it may be recorded once and is found at every condition.
        """
        wanted = at or self.main
        conditions = (wanted, *self._recorded(method)) if method in CONTROLS else (wanted,)
        keys = ((prompt_set, each, method, metric, by) for each in conditions for by in (recognizer, ""))
        return next((self._cells[key] for key in keys if key in self._cells), None)

    def _recorded(self, method: str) -> list[tuple[int, int]]:
        return sorted({(r.num_photos, r.num_impostors) for r in self.scores if r.method == method}, reverse=True)

    def difference(self, prompt_set: str, method: str, baseline: str, metric: str = IDENTITY) -> Difference | None:
        """Method minus the other at the main condition, turned around where it is recorded the other way."""
        return self._differences.get((prompt_set, self.main, metric, self.recognizer.name, method, baseline))

    @cached_property
    def _differences(self) -> dict[tuple[object, ...], Difference]:
        found: dict[tuple[object, ...], Difference] = {}
        for each in self.differences:
            at = (each.prompt_set, (each.num_photos, each.num_impostors), each.metric, each.recognizer)
            found.setdefault((*at, each.method, each.baseline), each)
            found.setdefault((*at, each.baseline, each.method), _turned(each))
        return found


def read_results(record: Mapping[str, Any]) -> Results:
    """The results in a record of `tenth experiment`. Raises DataError for anything else."""
    found = record.get("results")
    if record.get("kind") != "experiment" or not isinstance(found, Mapping):
        raise _no_record(f"the record is of kind {record.get('kind')!r:.100}")
    if found.get("format") != FORMAT:
        raise _no_record(f"its results are of format {found.get('format')!r:.100} and this version reads {FORMAT}")
    settings, prompt_sets = _table(record, "settings"), _table(found, "prompt_sets")
    for key in ("methods", "baselines"):
        _texts(settings, key)
    results = Results(
        _rows(Result, found, "scores"),
        _rows(Difference, found, "differences"),
        _rows(Recognizer, found, "recognizers"),
        _rows(Cost, found, "costs"),
        _rows(Failure, found, "failed"),
        {name: _row(PromptSet, prompt_set, f"prompt_sets, {name}") for name, prompt_set in prompt_sets.items()},
        _texts(found, "people"),
        str(found.get("disclaimer") or ""),
        _seconds(found.get("seconds")),
        settings,
        _table(record, "environment"),
        str(record.get("written") or ""),
    )
    if not results.methods:
        raise _no_record("its results have no score of a method")
    metrics = {result.metric for result in results.scores}
    for many in (results.names, metrics, results.recognizers, results.scored, results.prompt_sets, results.conditions):
        if len(many) > MOST:
            raise _no_record(f"its results are of {len(many)} methods, metrics, recognizers, prompt_sets or conditions")
    return results


def _table(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key) or {}
    if not isinstance(value, Mapping):
        raise _no_record(f"{key} is no table")
    return value


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    value = found.get(key) or []
    if not isinstance(value, list):
        raise _no_record(f"{key} is no list")
    return value


def _texts(found: Mapping[str, Any], key: str) -> list[str]:
    values = _list(found, key)
    if not all(isinstance(value, str | int) for value in values):
        raise _no_record(f"{key} is no list of names")
    return list(map(str, values))


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= LARGEST:
        raise _no_record(f"seconds is {value!r:.100}")
    return float(value)


def _rows(kind: type[Row], found: Mapping[str, Any], key: str) -> list[Row]:
    return [_row(kind, row, f"{key}, entry {number}") for number, row in enumerate(_list(found, key))]


def _row(kind: type[Row], row: Any, where: str) -> Row:
    """One row of the record; keys that this version does not know are left out, null is what is not there."""
    if not isinstance(row, Mapping):
        raise _no_record(f"{where}: {row!r:.100} is no table")
    known = {each.name for each in fields(kind)}  # type: ignore[arg-type]  # always one of the dataclasses above
    table = {key: value for key, value in row.items() if key in known and value is not None}
    if odd := [key for key, value in table.items() if isinstance(value, int | float) and not abs(value) <= LARGEST]:
        raise _no_record(f"{where}: {odd[0]} is not a finite number, or too large a one")
    try:
        return from_table(kind, table, where)
    except RecipeError as problem:
        raise _no_record(f"{problem.found}, {problem.needed}") from None


def _turned(each: Difference) -> Difference:
    low, high = (None if end is None else -end for end in (each.high, each.low))
    win_rate = None if each.win_rate is None else 1 - each.win_rate
    return Difference(
        **{**vars(each), "method": each.baseline, "baseline": each.method, "value": -each.value}
        | {"low": low, "high": high, "win_rate": win_rate}
    )


def _no_record(found: str) -> DataError:
    return DataError(found, "a record that `tenth experiment` wrote is needed", "Give its run.json, or the folder it is in")
