"""Shards: some thousand pictures each, a tar in the layout that webdataset reads, with a report; each is whole or not there.

    rows/00000.jsonl                     the rows of the shard; the plan has their sha256, and so has the report
    shards/00000.tar                     ID.png (or .webp) and ID.json of each picture, in the order of the rows
    shards/00000.features.safetensors    where features are asked for: a row for each picture, in the same order
    shards/00000.json                    the report: what was drawn, bad rows, bytes and sha256 of each file
    shards/00000.done                    written last: the report's sha256, and the seconds that it took

Equal rows give equal bytes of all but the last, on whatever worker: a shard that is drawn twice at once comes out once.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

from tenth.core.errors import DataError, InputError
from tenth.core.files.png_metadata import MAX_PNG_BYTES
from tenth.core.files.reading import UnreadableError, parse_json
from tenth.experiments.batch.rows import BatchRow, error_table, parse_rows, read_row
from tenth.experiments.batch.store import Store, sha256_in

if TYPE_CHECKING:
    from tenth.experiments.batch.features import FeatureCollector

MAX_REPORT_BYTES = 256 << 20  # a shard whose rows are all bad says why of each
MAX_ROWS_BYTES = 1 << 30
REPORT_FORMAT = 1
BATCH_AGAIN = "Run `tenth batch` with the same plan again"


@dataclass(frozen=True, eq=False)
class DrawnRow:
    """What became of a row: the picture's bytes and what to say of it, or the error.

    suffix: "png" or "webp". metadata: for its JSON, beside the row and the sha256.
    """

    row: BatchRow
    picture: bytes = b""
    suffix: str = "png"
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: InputError | None = None


@dataclass(frozen=True)
class ShardReport:
    """What a shard holds. rows: pictures. bad: of each other row its id, person and error. files: bytes and sha256 by name.

    rows_sha256: of the file of rows that it was drawn from.
    """

    rows: int
    bad: tuple[Mapping[str, Any], ...]
    files: Mapping[str, Mapping[str, Any]]
    digest: str  # sha256 of the report
    seconds: float
    rows_sha256: str


def shard_file(index: int, suffix: str) -> str:
    """The name of a file of a shard, such as shards/00012.tar."""
    return f"shards/{index:05d}.{suffix}"


def rows_file(index: int) -> str:
    """The name of the file with the rows of a shard."""
    return f"rows/{index:05d}.jsonl"


def read_shard_rows(store: Store, index: int, sha256: str = "") -> list[BatchRow]:
    """The rows of a shard. sha256: of the file, "" for any. Raises DataError if they are not those that were planned."""
    try:
        content = store.read(rows_file(index), MAX_ROWS_BYTES)
        if sha256 and hashlib.sha256(content).hexdigest() != sha256:
            raise UnreadableError("it has other rows than it had")
        lines = content.decode().splitlines()
    except (OSError, UnreadableError, UnicodeDecodeError) as problem:
        found = f"{rows_file(index)} in {store.address} cannot be read ({problem})"
        raise DataError(found, "the rows that were planned are needed", "Plan anew into another -o") from problem
    return [read_row(line) for line in lines]


def read_report(store: Store, index: int) -> ShardReport | None:
    """The report of a shard that was finished; None if it was not. Raises DataError if it is damaged; files are not read."""
    try:
        done = parse_json(store.read(shard_file(index, "done")).decode())
    except FileNotFoundError:
        return None
    except (UnreadableError, UnicodeDecodeError) as problem:
        raise _damaged(index, "done", str(problem)) from problem
    try:
        content = store.read(shard_file(index, "json"), MAX_REPORT_BYTES)
        digest = hashlib.sha256(content).hexdigest()
        if digest != done["sha256"]:
            raise _damaged(index, "json", "is not what its shard was finished with")
        report = parse_json(content.decode())
        if report["shard"] != index:
            raise _damaged(index, "json", f"is of shard {report['shard']}")
        values = report["rows"], tuple(report["bad"]), report["files"], digest, float(done["seconds"])
        return ShardReport(*values, rows_sha256=report["rows_sha256"])
    except FileNotFoundError as problem:
        raise _damaged(index, "json", "is gone") from problem
    except (UnreadableError, UnicodeDecodeError, KeyError, TypeError, ValueError) as problem:
        raise _damaged(index, "json", "is no report") from problem


def check_shard(store: Store, index: int, rows_sha256: str = "") -> ShardReport | None:
    """As `read_report`; raises DataError as well if a file is gone, or another than was written. Reads all of them.

    rows_sha256: of the rows that it is to be of, "" for any.
    """
    report = read_report(store, index)
    if report and rows_sha256 and report.rows_sha256 != rows_sha256:
        raise _damaged(index, "json", "is of other rows")
    for name, expected in report.files.items() if report else ():
        size = store.size(name)
        if size is None:
            raise DataError(f"{name} is gone", "a whole shard is needed", BATCH_AGAIN)
        if size != expected["bytes"] or sha256_in(store, name) != expected["sha256"]:
            raise DataError(f"{name} is not as it was written", "a whole shard is needed", BATCH_AGAIN)
    return report


def finished(store: Store, index: int) -> bool:
    """Whether a shard is there, and each of its files is as it was written."""
    try:
        return check_shard(store, index) is not None
    except DataError:
        return False


def write_shard(store: Store, index: int, drawn: Iterable[DrawnRow], features: FeatureCollector | None = None) -> ShardReport:
    """Write the pictures as they come, then the features, the report, and what says that the shard is finished.

    The seconds are those that all of it took, drawing included. Raises DataError where the store takes no more, or has no rows.
    """
    started = time.perf_counter()
    store.remove(shard_file(index, "done"))  # what is written anew is not finished meanwhile
    try:
        rows_sha256 = sha256_in(store, rows_file(index))
    except FileNotFoundError as problem:
        raise DataError(
            f"{rows_file(index)} is gone", "the rows that were planned are needed", "Plan anew into another -o"
        ) from problem
    files: dict[str, dict[str, Any]] = {}
    rows, bad = 0, []
    with (
        _hashed(store, shard_file(index, "tar"), files) as file,
        tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for each in drawn:
            if each.error is not None:
                bad.append(_bad_row(each.row, each.error))
                continue
            for suffix, content in ((each.suffix, each.picture), ("json", _sample_json(each))):
                entry = tarfile.TarInfo(f"{each.row.id}.{suffix}")  # mtime 0, nobody's
                entry.size = len(content)
                tar.addfile(entry, BytesIO(content))
            rows += 1
            if features is not None:
                features.add(each.picture)

    # What belongs to the pictures, and the report of all of it.
    if features is not None:
        with _hashed(store, shard_file(index, "features.safetensors"), files) as file:
            file.write(features.to_bytes())
    of_rows = {"rows": rows, "bad": bad, "rows_sha256": rows_sha256}
    report = {"format": REPORT_FORMAT, "shard": index, "files": files} | of_rows
    content = json.dumps(report, sort_keys=True, indent=1).encode() + b"\n"
    with store.writing(shard_file(index, "json")) as file:
        file.write(content)
    digest, seconds = hashlib.sha256(content).hexdigest(), round(time.perf_counter() - started, 3)
    store.create(shard_file(index, "done"), json.dumps({"seconds": seconds, "sha256": digest}, sort_keys=True).encode() + b"\n")
    return ShardReport(rows, tuple(bad), files, digest, seconds, rows_sha256)


def iterate_samples(store: Store, index: int) -> Iterator[tuple[BatchRow, bytes, dict[str, Any]]]:
    """Each picture of a shard: its row, its bytes and its JSON, one at a time.

    Raises DataError if the shard is not finished, a picture is not what its JSON says, or not all are there.
    """
    name, report, count = shard_file(index, "tar"), read_report(store, index), 0
    if report is None:
        raise _damaged(index, "done", "is not there")
    try:
        with store.open(name) as file, tarfile.open(fileobj=file, mode="r|") as tar:
            picture = b""
            for entry in tar:
                content = _entry_content(tar, entry)
                if not entry.name.endswith(".json"):
                    picture = content
                    continue
                metadata, count = parse_json(content.decode()), count + 1
                if metadata["sha256"] != hashlib.sha256(picture).hexdigest():
                    raise UnreadableError(f"{entry.name} is of another picture")
                (row,) = parse_rows(metadata["row"], name)
                yield row, picture, metadata
    except FileNotFoundError as problem:
        raise _damaged(index, "tar", "is gone") from problem
    except (tarfile.TarError, UnreadableError, UnicodeDecodeError, KeyError, TypeError) as problem:
        raise _damaged(index, "tar", f"is damaged ({problem})") from problem
    if count != report.rows:
        raise _damaged(index, "tar", f"has {count:,} pictures, and its report {report.rows:,}")


def _entry_content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry) if entry.isfile() and entry.size <= MAX_PNG_BYTES else None
    if file is None:
        raise UnreadableError(f"{entry.name} is no picture")
    return file.read()


def _sample_json(drawn: DrawnRow) -> bytes:
    digest = hashlib.sha256(drawn.picture).hexdigest()
    said = {"id": drawn.row.id, "row": drawn.row.to_table(), "sha256": digest, **drawn.metadata}
    return json.dumps(said, sort_keys=True, allow_nan=False).encode() + b"\n"


def _bad_row(row: BatchRow, error: InputError) -> dict[str, Any]:
    return {"id": row.id, "person": row.person, "prompt": row.prompt, "seed": row.seed, "error": error_table(error)}


class _Hashing:
    """A file that is written from its beginning to its end, with the sha256 of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest, self.bytes = file, hashlib.sha256(), 0

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        self.bytes += len(content)
        return self.file.write(content)

    def tell(self) -> int:
        return self.bytes


@contextmanager
def _hashed(store: Store, name: str, files: dict[str, dict[str, Any]]) -> Iterator[IO[bytes]]:
    """A file of the store, whose bytes and sha256 are put among the files in the end."""
    with store.writing(name) as file:
        hashing = _Hashing(file)
        yield hashing  # type: ignore[misc]  # what writes here calls write and tell
    files[name] = {"bytes": hashing.bytes, "sha256": hashing.digest.hexdigest()}


def _damaged(index: int, suffix: str, found: str) -> DataError:
    return DataError(f"{shard_file(index, suffix)} {found}", "a whole shard is needed", BATCH_AGAIN)
