"""A submission -> its row: every score, and each person's identity similarity, by the functions that an experiment uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from tenth.core.console import track
from tenth.core.errors import DataError
from tenth.core.files.png_metadata import read_if_complete
from tenth.core.wording import abbreviate
from tenth.evaluation.extractors.features import extract_cached
from tenth.evaluation.image_set import load_image
from tenth.experiments.benchmark.copies import PRIVATE_FOLDER
from tenth.experiments.benchmark.judges import Judges
from tenth.experiments.benchmark.submission import Submission
from tenth.experiments.benchmark.tasks import Benchmark
from tenth.experiments.protocol import EvaluatedPerson
from tenth.experiments.recipe import PORTRAIT_PROMPT_SET
from tenth.experiments.recognizers import recognizer_records
from tenth.experiments.results import (
    condition_keys,
    image_set_score_records,
    network_records,
    prompt_score_records,
    score_record,
)
from tenth.experiments.scoring import NO_IDENTITY, AllTableRows, TableRow, face_scores, real_control_rows
from tenth.reporting.results_reader import IDENTITY, System

JsonDict = dict[str, Any]


@dataclass(frozen=True)
class SystemName:
    """What a row is called, and the model behind it, in words."""

    name: str
    model: str = ""


def score_submission(benchmark: Benchmark, submission: Submission, system: SystemName, judges: Judges) -> JsonDict:
    """The row of a submission, for JSON: `scores` of the system and of the controls, `values` by person, and what they are of.

    Raises DataError if a recognizer leaves fewer than two people with a face in their real photos.
    """
    people, notes = embed_real_photos(benchmark, submission.people, judges)
    person_ids = [person.person_id for person in people]
    rows = table_rows(benchmark, submission, system, person_ids)

    # By each recognizer, then by what needs none.
    scores: list[JsonDict] = []
    values: list[JsonDict] = []
    for (index, (label, recognizer)), ((prompt_set, condition), table) in product(
        enumerate(judges.recognizers.items()), rows.items()
    ):
        named_scores, by_method = face_scores(table, people, index, recognizer)
        scores += [score_record(prompt_set, condition, each) | {"recognizer": label} for each in named_scores]
        keys = condition_keys(prompt_set, condition) | {"metric": IDENTITY, "recognizer": label}
        values += [keys | {"method": name, "by_person": by_person} for name, by_person in by_method.items()]
    scores += prompt_score_records(rows, judges.prompt_scorers)
    scores += image_set_score_records(rows, person_ids, benchmark.real, judges.networks)
    width, height = submission.size
    return {
        "system": {"method": system.name, "model": system.model, "width": width, "height": height},
        "controls": [asdict(control) for control in _control_systems(rows)],
        "people": person_ids,
        "images_sha256": submission.digest,
        "notes": [*submission.notes, *notes],
        "recognizers": recognizer_records(judges.recognizers),
        "scores": scores,
        "values": values,
        "prompt_scorers": [scorer.name for scorer in judges.prompt_scorers],
        **network_records(judges.networks),
    }


def embed_real_photos(
    benchmark: Benchmark, person_ids: Sequence[str], judges: Judges
) -> tuple[list[EvaluatedPerson], list[str]]:
    """The real photos as the recognizers read them, and whom a recognizer left out: with no face in all of a side."""
    people, faceless = [], []
    for person_id in track(person_ids, "real photos", "person"):
        references, held_out = (
            [load_image(path) for path in benchmark.real.paths(side, person_id)] for side in ("references", "held-out")
        )
        given, kept_back = (
            tuple(extract_cached(side, recognizer) for recognizer in judges.recognizers.values())
            for side in (references, held_out)
        )
        if any(np.isnan(rows).any(1).all() for rows in (*given, *kept_back)):
            faceless.append(person_id)
        else:
            attributes = benchmark.attributes.get(person_id, {})
            people.append(EvaluatedPerson(person_id, tuple(references), given, kept_back, attributes))
    if len(people) < 2:
        found = f"a recognizer finds a face in the real photos of {len(people)} of {len(person_ids)} people"
        raise DataError(found, "two people are needed", "Check the recognizer's description (docs/recognizers.md)")
    notes = [f"left out, a recognizer finds no face in their real photos: {abbreviate(faceless)}"] if faceless else []
    return people, notes


def table_rows(benchmark: Benchmark, submission: Submission, system: SystemName, person_ids: Sequence[str]) -> AllTableRows:
    """The system's row for each prompt set and number of references, and the controls at the largest number."""
    known = set(person_ids)
    by_table: dict[Any, list[Any]] = {}
    for task in submission.tasks:
        if task.person in known:
            by_table.setdefault((task.prompt_set, task.condition), []).append(task)
    tables: dict[Any, dict[str, TableRow]] = {}
    for key, tasks in by_table.items():
        paths, prompts = tuple(map(submission.path, tasks)), tuple(task.prompt for task in tasks)
        tables[key] = {system.name: TableRow(tuple(task.person for task in tasks), paths, prompts)}
        if key[1] == benchmark.main_condition:
            tables[key] |= real_control_rows(person_ids, benchmark.real) | _without_identity(benchmark, tasks, person_ids)
    return tables


def _control_systems(rows: AllTableRows) -> list[System]:
    """The model and image size of the control without a person, where it was drawn."""
    paths = [row.paths[0] for table in rows.values() for name, row in table.items() if name == NO_IDENTITY]
    if not paths:
        return []
    height, width, _ = load_image(paths[0]).shape
    model = (read_if_complete(paths[0]) or {}).get("model", "")
    return [System(NO_IDENTITY, str(model), width, height)]


def _without_identity(benchmark: Benchmark, tasks: Sequence[Any], person_ids: Sequence[str]) -> dict[str, TableRow]:
    """The control of images without a person, which everybody shares, where the export drew them."""
    prompt_set = tasks[0].prompt_set
    folder = benchmark.directory / PRIVATE_FOLDER / ("images" if prompt_set == PORTRAIT_PROMPT_SET else f"images-{prompt_set}")
    prompts = {folder / "none" / f"{task.seed}.png": task.prompt for task in tasks}
    if not all(path.is_file() for path in prompts):
        return {}
    people = tuple(person_id for person_id in person_ids for _ in prompts)
    return {
        NO_IDENTITY: TableRow(people, tuple(prompts) * len(person_ids), tuple(prompts.values()) * len(person_ids), shared=True)
    }
