"""Encode the training people of any data set into shards, by several processes, so that a stopped run loses a shard each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from tenth.core.cache import ArrayCache, default_cache_dir
from tenth.core.console import progress_bar
from tenth.core.errors import CheckpointError, DataError, InputError
from tenth.core.files.claims import exclusive_folder, list_entries, remove_temporary
from tenth.core.files.reading import UnreadableError, read_json, read_verified, reason, sha256_of
from tenth.core.files.writing import make_private_folder, write_bytes, write_json
from tenth.core.types import DiffusionModel
from tenth.core.wording import abbreviate, pluralize
from tenth.core.workers.tasks import run_tasks
from tenth.data.faces.crops import PhotoDataset
from tenth.data.manifest import ManifestEntry, iterate_people, read_manifest, write_manifest
from tenth.models.memory.planner import LoadOptions
from tenth.models.registry import load_model
from tenth.training.adapter import shards
from tenth.training.adapter.encoding import encode_people, on_device
from tenth.training.adapter.shards import ShardReport
from tenth.training.distributed import distributed_state
from tenth.training.flow_matching.frozen_model import frozen_model

SHARD_PHOTOS = 1024  # rows of a shard, at least, unless it is the last; the rows of a person are never in two
MIN_PHOTOS = 2  # of a person: one to predict, and one to predict it from
MAX_FAILURES = 5  # failed shards after which the run stops: a full disk fails them all


@dataclass(frozen=True)
class EncodeOptions:
    """Who encodes: as `run_tasks`. verify: the sha256 of shards that are there is computed, and damaged ones are done again."""

    workers: int = 0
    ray: str = ""
    verify: bool = False


def encode_training_set(
    data: PhotoDataset, output: Path, model: str, options: EncodeOptions, shard_photos: int = SHARD_PHOTOS
) -> list[ShardReport]:
    """Write a folder that a recipe's `encoded` reads: every training person with two photos or more. What each shard holds.

    The same data and model give the same bytes, whatever stopped or did the work: finished shards are kept. Raises DataError if
    a shard cannot be encoded or written, after the others, or if nobody has two photos; CheckpointError if the folder holds
    anything else or another run is writing to it.
    """
    # Workers have folders of their own: they get whole paths.
    data, output = PhotoDataset(data.people.absolute(), data.photos.absolute()), output.absolute()
    model = str(Path(model).absolute()) if Path(model).is_dir() else model
    with exclusive_folder(output):
        remove_temporary(output)
        expected = {"people": _digest(data), "networks": load_networks(model)[1], "shard_photos": shard_photos}
        plan = _read_plan(output) or _write_plan(data, output, expected)
        _require_same(plan, expected, output)
        digests = _read_row_digests(output, plan)

        # What is not finished goes to the workers; a shard's own report says that it is.
        numbers = range(plan["num_shards"])
        reports: dict[int, ShardReport] = {}
        make_runner = partial(make_shard_encoder, data, output, model, options.verify, digests)
        tasks = _unfinished(output, digests, reports, verify=options.verify)
        failures: list[InputError] = []
        with progress_bar("shards", "shard") as update:
            for outcome in run_tasks(make_runner, tasks, workers=options.workers, ray=options.ray):
                if outcome.result is None:
                    assert outcome.error is not None
                    failures.append(outcome.error)
                else:
                    reports[outcome.task] = outcome.result
                update(len(reports), len(numbers))
                if len(failures) == MAX_FAILURES:
                    break
        if failures:
            raise _failed(failures, len(numbers) - len(reports))
        if not any(report.people for report in reports.values()):
            found = f"of the train people of {data.people} nobody has {MIN_PHOTOS} usable photos"
            raise DataError(found, "a photo to predict and others of the person are needed", "Add photos of each person")
        ordered = [reports[number] for number in numbers]
        shards.write_index(output, plan, ordered)
    return ordered


def make_shard_encoder(
    data: PhotoDataset, output: Path, model: str, verify: bool, row_digests: list[str]
) -> Callable[[int], ShardReport]:
    """What a worker runs: the number of a shard -> its report, once its files are written. row_digests: of files of rows."""
    return partial(_encode_shard, data, output, model, verify, row_digests)


def _encode_shard(
    data: PhotoDataset, output: Path, model: str, verify: bool, row_digests: list[str], number: int
) -> ShardReport:
    """Encode one shard, unless another worker has just finished it."""
    if report := shards.finished_report(output, number, row_digests[number], verify=verify):
        return report
    networks, digests = load_networks(model)
    with frozen_model(networks) as frozen, on_device(networks.encoder, distributed_state().device):
        # The networks of another version would give other values than those of the shards before.
        _require_same(_read_plan(output) or {}, {"networks": digests}, output)
        _check_rows(shards.rows_path(output, number), row_digests[number])
        entries = read_manifest(shards.rows_path(output, number))
        cache = ArrayCache(default_cache_dir(), keep=False)  # nothing is computed twice, and photos are many
        photos, num_readable = encode_people(data, entries, MIN_PHOTOS, networks.encoder, frozen, cache)

    # The report comes last: with it the shard is finished.
    path, kept = shards.shard_path(output, number), [count for count in num_readable.values() if count >= MIN_PHOTOS]
    if photos is not None:
        shards.write_shard(path, photos)
    report = ShardReport(
        people=len(kept),
        photos=sum(kept),
        num_bytes=path.stat().st_size if kept else 0,
        sha256=sha256_of(path) if kept else "",
        dropped_photos=len(entries) - num_readable.total(),
        dropped_people=len({entry.person for entry in entries}) - len(kept),
        rows_sha256=row_digests[number],
    )
    shards.write_report(output, number, report)
    return report


@lru_cache(1)
def load_networks(model: str) -> tuple[DiffusionModel, dict[str, str]]:
    """The model as training loads it, on the accelerator if there is one, and what its values depend on."""
    networks = load_model(model, options=LoadOptions(device="cpu", full_precision=True))
    networks.pipeline.to(distributed_state().device)
    with frozen_model(networks) as frozen:
        return networks, shards.encoder_settings(networks.encoder, frozen)


def _read_plan(output: Path) -> dict[str, Any] | None:
    """The plan in a folder; None in a new or empty one, whose planning may have been stopped. Raises CheckpointError."""
    if not (output / shards.PLAN_FILE).exists():
        if foreign := list_entries(output) - {shards.ROWS_FOLDER, shards.SHARDS_FOLDER}:
            found = f"{output} holds {min(foreign)}, and no training set"
            raise CheckpointError(found, "an empty or new folder is needed", "Choose another -o")
        return None
    try:
        plan = read_json(output / shards.PLAN_FILE)
        if not isinstance(plan, dict) or type(plan.get("num_shards")) is not int:
            raise UnreadableError("is no plan of a training set")
    except (OSError, UnreadableError) as problem:
        found = f"{output / shards.PLAN_FILE} {reason(problem)}"
        raise CheckpointError(
            found, "the plan of a training set is needed", "Choose another -o, or remove this one"
        ) from problem
    return plan


def _write_plan(data: PhotoDataset, output: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Deal the training people into shards, a file of rows each, and write what is to be encoded, last."""
    make_private_folder(output / shards.SHARDS_FOLDER)  # it will hold face descriptors
    digests, rows = list[str](), list[ManifestEntry]()

    def write_rows() -> None:
        path = shards.rows_path(output, len(digests))
        write_manifest(path, rows)
        digests.append(sha256_of(path))
        rows.clear()

    for entries in iterate_people(data.people, "train"):
        rows += entries
        if len(rows) >= settings["shard_photos"]:
            write_rows()
    if rows:
        write_rows()
    content = "".join(f"{digest}\n" for digest in digests).encode()
    write_bytes(output / shards.DIGESTS_FILE, content)
    plan = settings | {"num_shards": len(digests), "rows_sha256": hashlib.sha256(content).hexdigest()}
    write_json(output / shards.PLAN_FILE, plan)
    return plan


def _read_row_digests(output: Path, plan: dict[str, Any]) -> list[str]:
    """sha256 of each file of rows, as they were dealt. Raises DataError if the folder has another list, or none."""
    path = output / shards.DIGESTS_FILE
    try:
        digests = read_verified(path, str(plan.get("rows_sha256")), shards.MAX_INDEX_BYTES).decode().split()
        if len(digests) != plan["num_shards"]:
            raise UnreadableError(f"has {len(digests)} digests of {plan['num_shards']} shards")
    except (OSError, UnreadableError) as problem:
        raise _damaged_rows(path, problem) from problem
    return digests


def _check_rows(path: Path, sha256: str) -> None:
    """Raises DataError unless the rows are those that were dealt: people who are missing would be missed by nobody."""
    try:
        if sha256_of(path) != sha256:
            raise UnreadableError("has other rows than it had")
    except (OSError, UnreadableError) as problem:
        raise _damaged_rows(path, problem) from problem


def _damaged_rows(path: Path, problem: OSError | UnreadableError) -> DataError:
    needed, action = "the rows that were written there are needed", "Choose another -o, or remove this one"
    return DataError(f"{path} {reason(problem)}", needed, action)


def _require_same(plan: dict[str, Any], expected: dict[str, Any], output: Path) -> None:
    """Raises CheckpointError unless the plan says the same."""
    for key, value in expected.items():
        if plan.get(key) != value:
            other = "of another people.jsonl" if key == "people" else f"with {key} {plan.get(key)!r}, not {value!r}"
            found = f"{output} holds a training set {other}"
            raise CheckpointError(found, "a folder holds one", "Choose another -o, or give what it was begun with")


def _unfinished(output: Path, digests: list[str], reports: dict[int, ShardReport], *, verify: bool) -> Iterator[int]:
    """The shards that need a worker, as they are asked for. digests: of their rows. reports: gets those of the others."""
    for number, digest in enumerate(digests):
        if not verify and (report := shards.finished_report(output, number, digest)):
            reports[number] = report
        else:
            yield number


def _digest(data: PhotoDataset) -> str:
    """sha256 of the rows. Raises DataError."""
    try:
        return sha256_of(data.people)
    except (OSError, UnreadableError) as problem:
        action = "Write them with `tenth data lfw` or `tenth data image-folder`"
        raise DataError(f"{data.people} {reason(problem)}", "the rows of a data set are needed", action) from problem


def _failed(failures: list[InputError], missing: int) -> DataError:
    found = abbreviate((str(each).rstrip(".") for each in failures), "; ")
    done = f"{pluralize(missing, 'shard')} missing, the others are kept"
    return DataError(found, done, "Mend it, and run the same command again: it goes on with what is missing")
