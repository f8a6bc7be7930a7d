"""Experiments and trainings below folders that the server was started with: how far they are. Only reads."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.errors import TenthError
from tenth.core.files.claims import list_entries
from tenth.core.files.reading import UnreadableError, parse_json, read_json, read_lines, read_toml
from tenth.core.run_record import PROGRESS_FILE, RECORD_FILE, replace_paths, short_path_names
from tenth.experiments.output_folders import SETTINGS_FILE, TRAINING_RECIPE
from tenth.reporting.results_reader import IDENTITY, read_results

HISTORY_FILE = "validation.jsonl"  # of training/monitoring.py, which imports torch
FINAL_FOLDER = "final"  # in a training's folder, written last
MAX_DEPTH, MAX_RUNS, MAX_FILES = 4, 500, 100_000  # folders below a given one; runs that are shown; images that are counted
RECENT_SECONDS = 600.0  # a run without a result whose files changed since is running


@dataclass(frozen=True)
class Run:
    """A run as it stands on the disk. done, total: images, 0 where nobody knows. history: a row for each validation."""

    id: str
    name: str
    kind: str
    status: str
    done: int
    total: int
    metrics: Mapping[str, float | str]
    changed: float
    settings: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()


def list_runs(folders: Sequence[Path]) -> list[Run]:
    """All runs below these folders, the one that changed last first. A folder that cannot be read is none."""
    runs = [run for path, name in run_folders(folders) if (run := read_run(path, name)) is not None]
    return sorted(runs, key=lambda run: -run.changed)


def find_run(folders: Sequence[Path], run_id: str) -> Run | None:
    """The run of an id, which is a hash of its name: no path comes from a client."""
    return next((read_run(path, name) for path, name in run_folders(folders) if _run_id(name) == run_id), None)


def run_folders(folders: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Each folder that holds a run, and its name: the path from the folder that was given. Links are not followed."""
    count = 0
    for top in folders:
        for path, subfolders, files in os.walk(top):
            folder = Path(path)
            depth = len(folder.relative_to(top).parts)
            if {RECORD_FILE, PROGRESS_FILE, SETTINGS_FILE, TRAINING_RECIPE}.intersection(files):
                subfolders.clear()  # what is in it is its own
                yield folder, (Path(top.resolve().name) / folder.relative_to(top)).as_posix()
                count += 1
            elif depth >= MAX_DEPTH:
                subfolders.clear()
            if count >= MAX_RUNS:
                return
            subfolders.sort()


def read_run(folder: Path, name: str) -> Run | None:
    """The run in a folder; None if its files are damaged."""
    with suppress(OSError, UnreadableError, TenthError, KeyError, TypeError, ValueError):
        if (folder / TRAINING_RECIPE).is_file():
            return _training(folder, name)
        return _images(folder, name)
    return None


def _training(folder: Path, name: str) -> Run:
    """A training: its recipe, its newest checkpoint and what was measured at each validation."""
    settings = read_toml(folder / TRAINING_RECIPE)
    schedule, history = settings["schedule"], _history(folder / HISTORY_FILE)
    batch_size = int(schedule.get("batch_size", 0))  # left out, the validations alone say how far it is
    steps = [int(path.name[5:]) for path in folder.glob("step-*") if path.name[5:].isdecimal()]
    seen = max([0, *(step * batch_size for step in steps), *(int(row["images"]) for row in history)])
    total = int(schedule["total_images"])
    finished = (folder / FINAL_FOLDER).exists()
    changed = _changed(folder)
    return Run(
        **_named(name, f"training, {settings['stage']}", finished, changed),
        done=total if finished else min(seen, total),
        total=total,
        metrics=_numbers(history[-1]) if history else {},
        settings=_without_paths(settings),
        history=history,
    )


def _images(folder: Path, name: str) -> Run:
    """An experiment or a folder of images: its record, or what it was begun with."""
    record: dict[str, Any] = {"kind": "experiment", "results": {}}
    finished = (folder / RECORD_FILE).is_file()
    if finished:
        record = read_json(folder / RECORD_FILE)
    elif (folder / PROGRESS_FILE).is_file():
        record = read_json(folder / PROGRESS_FILE)
    else:
        record["settings"] = read_json(folder / SETTINGS_FILE)
    settings = record["settings"]
    total = len(settings.get("seeds", ()))
    done = total if finished and total else sum(1 for _, _ in zip(folder.rglob("*.png"), range(MAX_FILES), strict=False))
    return Run(
        **_named(name, str(record["kind"]), finished, _changed(folder)),
        done=done,
        total=total,
        metrics=_experiment_metrics(record) if finished and record["kind"] == "experiment" else {},
        settings=_without_paths(settings),
    )


def _experiment_metrics(record: Mapping[str, Any]) -> dict[str, float | str]:
    """Identity similarity of each method at the main condition, on the first prompt set."""
    results = read_results(record)
    found = {name: results.measured(results.scored[0], name) for name in results.methods} if results.scored else {}
    return {f"{IDENTITY} {name}": round(estimate.value, 4) for name, estimate in found.items() if estimate is not None}


def _named(name: str, kind: str, finished: bool, changed: float) -> dict[str, Any]:
    recent = time.time() - changed < RECENT_SECONDS
    status = "done" if finished else "running" if recent else "stopped"
    return {"id": _run_id(name), "name": name, "kind": kind, "status": status, "changed": changed}


def _run_id(name: str) -> str:
    return hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]


def _changed(folder: Path) -> float:
    """When a file of the folder, or a folder in it, changed last."""
    paths = (folder, *(folder / entry for entry in list_entries(folder)))
    return max(path.stat().st_mtime for path in paths if path.exists())


def _history(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [row for line in read_lines(path) if isinstance(row := parse_json(line), dict)]


def _numbers(row: Mapping[str, Any]) -> dict[str, float | str]:
    return {name: value for name, value in row.items() if type(value) in (int, float)}


def _without_paths(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without folders of this machine."""
    plain: dict[str, Any] = replace_paths(settings, short_path_names(settings))
    return plain
