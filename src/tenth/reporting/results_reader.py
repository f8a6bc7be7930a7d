"""run.json of an experiment as the report reads it: checked once, then looked up by what a table asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

from tenth.core.config import config_dataclass, from_table
from tenth.core.errors import DataError, RecipeError

FORMAT = 3  # of `results` in run.json
IDENTITY = "identity-similarity"  # the metric that methods are compared by
LARGEST = 1e9  # of a number in a record: what is larger is none of ours, and no axis or column holds it
MOST = 200  # methods, metrics, judges, tracks or conditions
# Rows of a table that are not methods: what a score means is read off them. In the order in which they are shown.
CONTROLS = ("real photos", "verbatim copies", "average of the references", "another person", "no identity")
Row = TypeVar("Row")


@config_dataclass
class Result:
    """One cell: a metric of a method under a condition. raw: the same on images as generated, before LFW's codec."""

    track: str
    photos: int
    method: str
    metric: str
    wrong: int = 0
    judge: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unavailable: str = ""
    raw: float | None = None


@config_dataclass
class Difference:
    """A method minus another, person by person. p_holm: corrected for the number of comparisons, None where it is not."""

    track: str
    photos: int
    method: str
    against: str
    metric: str
    value: float
    wrong: int = 0
    judge: str = ""
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    win_rate: float | None = None


@config_dataclass
class Judge:
    """A recogniser. headline: whether no method has read it, so that what it says is a result."""

    name: str
    licence: str = ""
    threshold: float | None = None
    headline: bool = False
    note: str = ""


@config_dataclass
class Cost:
    """What a method takes: to learn one person, to draw one image, and of memory."""

    method: str
    seconds_person: float | None = None
    seconds_image: float | None = None
    peak_mb: float | None = None


@config_dataclass
class Failure:
    """A person for whom a method gave nothing."""

    method: str
    person: str
    why: str


@config_dataclass
class Track:
    """Prompts, and images by each method of each person."""

    prompts: tuple[str, ...] = ()
    images: int = 0


@dataclass(frozen=True)
class Results:
    """All of a record. The main condition is the one with the most photos, none of them wrong."""

    scores: Sequence[Result]
    differences: Sequence[Difference]
    judges: Sequence[Judge]
    costs: Sequence[Cost]
    failed: Sequence[Failure]
    tracks: Mapping[str, Track]
    people: Sequence[str]
    meaningless: str = ""
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
        """The tracks that have a score, in the order of the scores: the neutral one first."""
        return tuple(dict.fromkeys(result.track for result in self.scores))

    @property
    def baseline(self) -> str:
        """The method that others are measured against: the recipe's first of `baselines`, else its first method."""
        wanted = [str(name) for name in self.settings.get("baselines") or ()]
        return next((name for name in wanted if name in self.methods), self.methods[0])

    @property
    def judge(self) -> Judge:
        """The recogniser whose word is the result, else the first."""
        return next((judge for judge in self.judges if judge.headline), self.judges[0] if self.judges else Judge(""))

    @cached_property
    def conditions(self) -> tuple[tuple[int, int], ...]:
        """(photos, wrong) of the methods' scores, fewest photos first, those with wrong photos last."""
        found = {(result.photos, result.wrong) for result in self.scores if result.method in self.methods}
        return tuple(sorted(found, key=lambda condition: (condition[1], condition[0])))

    @property
    def main(self) -> tuple[int, int]:
        """The condition of the tables."""
        return max((condition for condition in self.conditions if not condition[1]), default=self.conditions[-1])

    @cached_property
    def _cells(self) -> dict[tuple[object, ...], Result]:
        return {(r.track, (r.photos, r.wrong), r.method, r.metric, r.judge): r for r in self.scores}

    def find(self, track: str, method: str, metric: str, judge: str = "", at: tuple[int, int] | None = None) -> Result | None:
        """A cell, at the main condition unless told. Metrics that ask no recogniser are found whatever the judge.

        A control is the same whatever a method is given, so it may be recorded once and is found at every condition.
        """
        wanted = at or self.main
        conditions = (wanted, *self._recorded(method)) if method in CONTROLS else (wanted,)
        keys = ((track, each, method, metric, by) for each in conditions for by in (judge, ""))
        return next((self._cells[key] for key in keys if key in self._cells), None)

    def _recorded(self, method: str) -> list[tuple[int, int]]:
        return sorted({(r.photos, r.wrong) for r in self.scores if r.method == method}, reverse=True)

    def difference(self, track: str, method: str, against: str, metric: str = IDENTITY) -> Difference | None:
        """Method minus the other at the main condition, turned around where it is recorded the other way."""
        return self._differences.get((track, self.main, metric, self.judge.name, method, against))

    @cached_property
    def _differences(self) -> dict[tuple[object, ...], Difference]:
        found: dict[tuple[object, ...], Difference] = {}
        for each in self.differences:
            at = (each.track, (each.photos, each.wrong), each.metric, each.judge)
            found.setdefault((*at, each.method, each.against), each)
            found.setdefault((*at, each.against, each.method), _turned(each))
        return found


def read_results(record: Mapping[str, Any]) -> Results:
    """The results in a record of `tenth experiment`. Raises DataError for anything else."""
    found = record.get("results")
    if record.get("kind") != "experiment" or not isinstance(found, Mapping):
        raise _no_record(f"the record is of kind {record.get('kind')!r:.100}")
    if found.get("format") != FORMAT:
        raise _no_record(f"its results are of format {found.get('format')!r:.100} and this version reads {FORMAT}")
    settings, tracks = _table(record, "settings"), _table(found, "tracks")
    for key in ("methods", "baselines"):
        _texts(settings, key)
    results = Results(
        _rows(Result, found, "scores"),
        _rows(Difference, found, "differences"),
        _rows(Judge, found, "judges"),
        _rows(Cost, found, "costs"),
        _rows(Failure, found, "failed"),
        {name: _row(Track, track, f"tracks, {name}") for name, track in tracks.items()},
        _texts(found, "people"),
        str(found.get("meaningless") or ""),
        _seconds(found.get("seconds")),
        settings,
        _table(record, "environment"),
        str(record.get("written") or ""),
    )
    if not results.methods:
        raise _no_record("its results have no score of a method")
    metrics = {result.metric for result in results.scores}
    for many in (results.names, metrics, results.judges, results.scored, results.tracks, results.conditions):
        if len(many) > MOST:
            raise _no_record(f"its results are of {len(many)} methods, metrics, judges, tracks or conditions")
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
        **{**vars(each), "method": each.against, "against": each.method, "value": -each.value}
        | {"low": low, "high": high, "win_rate": win_rate}
    )


def _no_record(found: str) -> DataError:
    return DataError(found, "a record that `tenth experiment` wrote is needed", "Give its run.json, or the folder it is in")
