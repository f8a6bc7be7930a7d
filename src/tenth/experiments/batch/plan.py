"""A plan -> rows, sorted by person and divided into shards. Ten million rows take no more memory than a thousand."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from tenth.core.errors import CheckpointError, DataError, InputError
from tenth.core.files.reading import UnreadableError, parse_json
from tenth.core.wording import pluralize
from tenth.experiments.batch.plan_files import digest_of_plan, read_plan_rows
from tenth.experiments.batch.rows import error_table, row_line
from tenth.experiments.batch.shards import rows_file
from tenth.experiments.batch.sorting import sorted_lines
from tenth.experiments.batch.store import Store, scratch_file

PLAN_FILE, BAD_ROWS_FILE, DIGESTS_FILE = "plan.json", "rows/bad.jsonl", "rows/sha256.txt"
MAX_DIGESTS_BYTES = 1 << 30  # sixteen million shards
PLAN_FORMAT = 1
ROWS_PER_SHARD = 1_000


@dataclass(frozen=True)
class Plan:
    """plan.json. rows: pictures to draw; shards: how many files these are. bad_rows: lines that are none.

    duplicates: rows that stood a second time. rows_sha256: of DIGESTS_FILE, which has that of each file of rows; plan_sha256:
    of what they were read from. settings: of the pictures' files.
    """

    rows: int
    shards: int
    duplicates: int
    bad_rows: int
    rows_sha256: str
    plan_sha256: str
    settings: Mapping[str, Any]
    tenth: str
    format: int = PLAN_FORMAT

    @property
    def rows_per_shard(self) -> int:
        """Rows of each shard but the last."""
        return int(self.settings["rows_per_shard"])


@dataclass
class _Counts:
    duplicates: int = 0
    digests: list[str] = field(default_factory=list)  # of each file of rows


def plan_batch(path: Path, store: Store, settings: Mapping[str, Any], scratch: Path | None = None) -> Plan:
    """The plan in a store: written now, or that which is there, if it was made of the same file with the same settings.

    settings: of the batch, with rows_per_shard. scratch: a folder for what is sorted. Raises CheckpointError if the store holds
    anything else, DataError or RecipeError if the file is no plan, or has no good row.
    """
    earlier, digest = read_plan(store), digest_of_plan(path)
    if earlier is not None:
        _check_same(store, earlier, digest, settings)
        return earlier
    _check_unused(store)

    # Good rows are sorted; bad ones wait aside, so that a plan of these alone leaves nothing.
    counts, bad, rows, shards = _Counts(), 0, 0, 0
    with scratch_file(BAD_ROWS_FILE) as bad_file:

        def good_lines() -> Iterator[bytes]:
            nonlocal bad
            for row in read_plan_rows(path):
                if isinstance(row, InputError):
                    bad += 1
                    bad_file.write(json.dumps(error_table(row)).encode() + b"\n")
                else:
                    yield f"{row.sort_key}\t{row_line(row)}\n".encode()

        unique = _without_duplicates(sorted_lines(good_lines(), scratch), counts)
        while lines := list(islice(unique, int(settings["rows_per_shard"]))):
            content = b"".join(lines)
            with store.writing(rows_file(shards)) as file:
                file.write(content)
            counts.digests.append(hashlib.sha256(content).hexdigest())
            rows, shards = rows + len(lines), shards + 1
        bad_file.seek(0)
        if not rows:
            raise _no_good_row(path, bad, bad_file.readline())
        if bad:
            with store.writing(BAD_ROWS_FILE) as file:
                shutil.copyfileobj(bad_file, file)

    # The plan itself comes last: without it nothing was planned. Its digest is of what was read.
    if digest_of_plan(path) != digest:
        raise DataError(f"{path} changed while it was read", "a plan that stays as it is is needed", "Run the same again")
    digests = "".join(f"{each}\n" for each in counts.digests).encode()
    with store.writing(DIGESTS_FILE) as file:
        file.write(digests)
    rows_sha256 = hashlib.sha256(digests).hexdigest()
    plan = Plan(rows, shards, counts.duplicates, bad, rows_sha256, digest, dict(settings), version("tenth"))
    with store.writing(PLAN_FILE) as file:
        file.write(json.dumps(asdict(plan), sort_keys=True, indent=1).encode() + b"\n")
    return plan


def read_plan(store: Store) -> Plan | None:
    """The plan in a store; None if there is none. Raises DataError if it is damaged, or another version's."""
    try:
        table = parse_json(store.read(PLAN_FILE).decode())
        if table["format"] != PLAN_FORMAT:
            raise _unusable(store, f"has format {table['format']}, this version reads {PLAN_FORMAT}")
        return Plan(**table)
    except FileNotFoundError:
        return None
    except (UnreadableError, UnicodeDecodeError, KeyError, TypeError) as problem:
        raise _unusable(store, f"is damaged ({problem})") from problem


def read_row_digests(store: Store, plan: Plan) -> list[str]:
    """sha256 of each file of rows, as they were planned. Raises DataError if the store has another list, or none."""
    try:
        content = store.read(DIGESTS_FILE, MAX_DIGESTS_BYTES)
    except (FileNotFoundError, UnreadableError) as problem:
        raise _unusable_rows(store, "cannot be read") from problem
    digests = content.decode(errors="replace").split()
    if hashlib.sha256(content).hexdigest() != plan.rows_sha256 or len(digests) != plan.shards:
        raise _unusable_rows(store, "is not the one that was planned")
    return digests


def is_batch(store: Store) -> bool:
    """Whether a store holds a planned batch."""
    return store.size(PLAN_FILE) is not None


def _no_good_row(path: Path, bad: int, first: bytes) -> DataError:
    """What is wrong with a plan without a good row. first: the first bad one's error, as JSON."""
    needed, action = "a row with a person and a prompt is needed", "Add one"
    if not bad:
        return DataError(f"{path} holds no row", needed, action)
    error = parse_json(first.decode())
    found = f"{path} holds no good row, and {pluralize(bad, 'bad one')}; the first: {error['found']}"
    return DataError(found, error["needed"], error["action"])


def _without_duplicates(lines: Iterable[bytes], counts: _Counts) -> Iterator[bytes]:
    """The rows of sorted lines, each once."""
    last = b""
    for line in lines:
        if line == last:
            counts.duplicates += 1
            continue
        last = line
        yield line.partition(b"\t")[2]


def _check_same(store: Store, earlier: Plan, digest: str, settings: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless a store's plan is this one."""
    was = earlier.settings
    changed = [f"{key} {was.get(key)!r}, not {settings.get(key)!r}" for key in settings if was.get(key) != settings.get(key)]
    different = {
        "another plan": earlier.plan_sha256 != digest,
        f"the same plan with {', '.join(changed)}": dict(was) != dict(settings),
        f"the same plan of tenth {earlier.tenth}": earlier.tenth != version("tenth"),
    }
    for found, is_so in different.items():
        if is_so:
            action = "Choose another -o, or give what it was begun with"
            raise CheckpointError(f"{store.address} holds {found}", "a place holds one batch", action)


def _check_unused(store: Store) -> None:
    """Raises CheckpointError if a store without a plan holds more than a planning that was stopped."""
    entries = store.names()
    foreign = sorted(entries - {"rows"}) or sorted(name for name in store.names("rows") if not _is_rows_name(name))
    if foreign:
        found = f"{store.address} holds {foreign[0]}, which is not of a batch"
        raise CheckpointError(found, "a new or empty place is needed", "Choose another -o")


def _is_rows_name(name: str) -> bool:
    stem, _, suffix = name.rpartition(".")
    return (suffix == "jsonl" and (stem.isdigit() or stem == "bad")) or f"rows/{name}" == DIGESTS_FILE


def _unusable_rows(store: Store, found: str) -> DataError:
    needed = "the rows that were planned are needed"
    return DataError(f"{store.address}/{DIGESTS_FILE} {found}", needed, "Plan anew into another -o")


def _unusable(store: Store, found: str) -> DataError:
    return DataError(f"{store.address}/{PLAN_FILE} {found}", "a plan of this version is needed", "Choose another -o")
