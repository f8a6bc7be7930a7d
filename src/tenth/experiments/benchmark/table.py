"""Rows of a benchmark -> one record: every score, and paired differences between all rows, corrected for their number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from tenth.core.config import from_table
from tenth.core.errors import CheckpointError, DataError, RecipeError
from tenth.core.files.reading import without_system_files
from tenth.core.files.writing import write_text
from tenth.core.run_record import RECORD_FILE, read_record, write_record
from tenth.core.wording import abbreviate
from tenth.evaluation.paired_comparison import compare
from tenth.evaluation.recognizer_agreement import agreements
from tenth.experiments.benchmark.tasks import Benchmark
from tenth.experiments.recipe import PORTRAIT_PROMPT_SET
from tenth.reporting.csv_tables import write_csv
from tenth.reporting.html.page import write_page
from tenth.reporting.markdown import markdown, summary
from tenth.reporting.results_reader import (
    CONFIG,
    FORMAT,
    IDENTITY,
    Count,
    Number,
    Recognizer,
    Result,
    System,
    read_results,
)

JsonDict = dict[str, Any]
ROW_KIND, KIND = "benchmark-row", "benchmark"
ROWS_FOLDER = "rows"
TABLE_FILE = "table.md"
NEEDED_NAMES = "names that differ in more than case are needed: they are files"
# A table of scores, of which paired differences are taken: prompt set, photos, impostors, metric, recognizer.
TABLE_KEYS = ("prompt_set", "num_photos", "num_impostors", "metric", "recognizer")


@dataclass(frozen=True, config=CONFIG)
class PersonValues:
    """A metric of a system under a condition, by person."""

    prompt_set: str
    num_photos: Count
    num_impostors: Count
    metric: str
    recognizer: str
    method: str
    by_person: Mapping[str, Number]


@dataclass(frozen=True, config=CONFIG)
class Row:
    """What `tenth benchmark score` found of one system, as far as the table reads it."""

    system: System
    people: tuple[str, ...]
    scores: tuple[Result, ...]
    values: tuple[PersonValues, ...]
    controls: tuple[System, ...] = ()
    recognizers: tuple[Recognizer, ...] = ()
    notes: tuple[str, ...] = ()
    prompt_scorers: tuple[str, ...] = ()
    disclaimer: str = ""


def row_path(results: Path, name: str) -> Path:
    """Where a system's row is."""
    return results / ROWS_FOLDER / f"{name}.json"


def check_rows(results: Path, benchmark: Benchmark, name: str, digest: str, measured_by: Collection[str]) -> None:
    """What would keep a row out of the table, before hours of scoring.

    digest: of the images that it is to be of. measured_by: names of recognizers, prompt scorers and networks.
    Raises DataError as `read_rows`, CheckpointError if the row of the same name is of other images, or by what would be lost.
    """
    path = row_path(results, name)
    for row in read_rows(results, benchmark):
        if row.system.method != name and row.system.method.lower() == name.lower():
            found = f"the name {name!r}, beside the row {row.system.method!r}"
            raise DataError(found, NEEDED_NAMES, "Choose another --name")
    if not path.exists():
        return
    earlier = read_record(path, command=ROW_KIND)["results"]
    if earlier.get("images_sha256") != digest:
        found = f"{path} is the row of other images"
        raise CheckpointError(found, "a name stands for one system's images", "Choose another --name, or remove that row")
    if lost := [each for each in _measured_by(earlier) if each not in measured_by]:
        found = f"{path} has scores by {abbreviate(lost)}, which would be lost"
        needed = "a row that is scored again is scored by all that it was scored by"
        raise CheckpointError(found, needed, "Give these as well, choose another --name, or remove that row")


def _measured_by(row: Mapping[str, Any]) -> list[str]:
    """Names of what a row was measured by, in a row of any other version as far as it says so."""
    networks = row.get("networks")
    found = [each.get("name") for each in row.get("recognizers") or () if isinstance(each, dict)]
    found += row.get("prompt_scorers") or ()
    found += [each.get("name") for each in networks.values() if isinstance(each, dict)] if isinstance(networks, dict) else []
    return [name for name in found if isinstance(name, str)]


def save_row(results: Path, benchmark: Benchmark, row: Mapping[str, Any]) -> None:
    """Write a system's row; it takes the place of an earlier one."""
    path = row_path(results, row["system"]["method"])
    write_record(path, command=ROW_KIND, settings={"benchmark": benchmark.id}, results=row)


def write_tables(results: Path, benchmark: Benchmark) -> str:
    """run.json of all rows, and from it table.csv, differences.csv, table.md and report.html. Returns a table as Markdown."""
    rows = list(read_rows(results, benchmark))
    settings = {
        "benchmark": benchmark.id,
        "split": benchmark.record.split,
        "people_sha256": benchmark.record.people_sha256,
        "methods": ranked(rows, benchmark),
    }
    write_record(results / RECORD_FILE, command=KIND, settings=settings, results=merge_rows(rows, benchmark))
    record = read_record(results / RECORD_FILE, command=KIND)
    write_csv(read_results(record), results)
    write_text(results / TABLE_FILE, markdown(record))
    write_page(results / RECORD_FILE)
    return summary(record)


def read_rows(results: Path, benchmark: Benchmark) -> Iterator[Row]:
    """Every row of a folder, by name. Raises DataError for a file that is none, or a row of other tasks."""
    folder, names = results / ROWS_FOLDER, dict[str, str]()
    for path in without_system_files(folder, folder.glob("*.json")):
        try:
            record = read_record(path, command=ROW_KIND)
        except DataError as problem:
            raise _no_row(problem.found) from problem
        if record["settings"].get("benchmark") != benchmark.id:
            found = f"{path} is of the tasks {record['settings'].get('benchmark')!r:.50}"
            raise DataError(
                found, f"a table is of one benchmark, here {benchmark.id}", "Choose another -o, or move the row away"
            )
        try:
            row = from_table(Row, record["results"], str(path))
        except RecipeError as problem:
            raise _no_row(problem.found) from problem
        if path.stem != row.system.method:
            found = f"{path} is the row of {row.system.method!r:.70}"
            raise DataError(found, "the file of a row has its name: a copy would count twice", "Move it away, or rename it")
        if (other := names.setdefault(path.stem.lower(), path.stem)) != path.stem:
            found = f"{folder} has the rows {other!r} and {path.stem!r}"
            raise DataError(found, NEEDED_NAMES, "Move one away, and score it by another --name")
        yield row


def _no_row(found: str) -> DataError:
    return DataError(found, "a row that `tenth benchmark score` wrote is needed", "Move it away, and score that system again")


def merge_rows(rows: Sequence[Row], benchmark: Benchmark) -> JsonDict:
    """All rows as the results of one record; controls are those of the row with the most people."""
    by_people = _by_people(rows)
    controls = {each.method: each for row in reversed(by_people) for each in row.controls}
    scores: dict[tuple[Any, ...], Result] = {}
    for score in (score for row in by_people for score in row.scores):
        key = (*_table_of(score), score.method)
        if key not in scores or (scores[key].value is None and score.value is not None):
            scores[key] = score
    return {
        "format": FORMAT,
        "people": by_people[0].people,
        "systems": [*(row.system for row in rows), *controls.values()],
        "row_people": {row.system.method: row.people for row in rows},
        "recognizers": recognizers_of(rows),
        "scores": list(scores.values()),
        "differences": list(differences(rows)),
        "agreement": list(agreement(rows)),
        "prompt_scorers": sorted({name for row in rows for name in row.prompt_scorers}),
        "prompt_sets": {
            name: {"prompts": each.prompts, "images": each.images} for name, each in benchmark.record.prompt_sets.items()
        },
        "notes": {row.system.method: row.notes for row in rows if row.notes},
        "disclaimer": next((row.disclaimer for row in rows if row.disclaimer), ""),
    }


def differences(rows: Sequence[Row]) -> Iterator[JsonDict]:
    """Between all pairs of rows in each table, each pair over the people that both have."""
    for keys, by_method in _values_by_table(rows).items():
        if len(by_method) > 1:
            pairs = compare(by_method, common_people=True)
            yield from (dict(zip(TABLE_KEYS, keys, strict=True)) | asdict(pair) for pair in pairs)


def agreement(rows: Sequence[Row]) -> Iterator[JsonDict]:
    """Between all pairs of recognizers in each prompt set and condition, over the people that all rows have."""
    tables: dict[tuple[Any, ...], dict[str, dict[str, Mapping[str, float]]]] = {}
    for (*where, metric, recognizer), by_method in _values_by_table(rows).items():
        if metric == IDENTITY:
            tables.setdefault(tuple(where), {})[recognizer] = by_method
    for keys, by_recognizer in tables.items():
        yield from (dict(zip(TABLE_KEYS, keys, strict=False)) | asdict(pair) for pair in agreements(by_recognizer))


def _values_by_table(rows: Sequence[Row]) -> dict[tuple[Any, ...], dict[str, Mapping[str, float]]]:
    """The values of each table, by TABLE_KEYS: system -> person -> value."""
    tables: dict[tuple[Any, ...], dict[str, Mapping[str, float]]] = {}
    for each in (each for row in rows for each in row.values):
        tables.setdefault(_table_of(each), {})[each.method] = each.by_person
    return tables


def ranked(rows: Sequence[Row], benchmark: Benchmark) -> list[str]:
    """Names of the systems, the highest identity similarity with the most references first, by the recognizer of the tables.

    Then those that lack people whom others have, whose means are of other people; then those without such a similarity.
    """
    recognizers = sorted(recognizers_of(rows), key=lambda each: each.selection_only)
    at = (PORTRAIT_PROMPT_SET, benchmark.main_condition.num_photos, IDENTITY, *(each.name for each in recognizers[:1]))

    def similarity(row: Row) -> float | None:
        found = [
            score.value
            for score in row.scores
            if (score.prompt_set, score.num_photos, score.metric, score.recognizer) == at and score.method == row.system.method
        ]
        return next((value for value in found if value is not None), None)

    measured = {row.system.method: value for row in rows if (value := similarity(row)) is not None}
    people = {row.system.method: set(row.people) for row in rows}
    everybody = set[str]().union(*(people[name] for name in measured))
    return sorted(people, key=lambda name: (name not in measured, bool(everybody - people[name]), -measured.get(name, 0.0)))


def recognizers_of(rows: Sequence[Row]) -> list[Recognizer]:
    """Of all rows, each once; the tables are by the first that is not for model selection only."""
    return list({each.name: each for row in _by_people(rows) for each in row.recognizers}.values())


def _by_people(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -len(row.people))


def _table_of(line: Result | PersonValues) -> tuple[Any, ...]:
    return tuple(getattr(line, key) for key in TABLE_KEYS)
