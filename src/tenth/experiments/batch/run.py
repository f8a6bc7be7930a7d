"""A plan -> a store of shards: planned here, drawn by any number of workers, stopped and gone on with at any moment."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenth.core.errors import DataError, InputError
from tenth.core.files.reading import parse_json
from tenth.core.marks.signer import current_signer
from tenth.core.run_record import record_text
from tenth.core.wording import pluralize
from tenth.core.workers.attempts import Workers
from tenth.core.workers.tasks import run_tasks
from tenth.experiments.batch.plan import BAD_ROWS_FILE, ROWS_PER_SHARD, Plan, plan_batch, read_plan, read_row_digests
from tenth.experiments.batch.shards import ShardReport, check_shard, read_report, read_shard_rows, write_shard
from tenth.experiments.batch.store import FolderStore, Store, open_store

if TYPE_CHECKING:
    from tenth.experiments.batch.drawing import Drawer
    from tenth.experiments.batch.rows import BatchRow

RECORD_FILE = "batch.json"
MAX_LISTED = 1_000  # bad rows in the record; all are in rows/bad.jsonl and the reports of their shards
MAX_FAILED_SHARDS = 3  # one after the other: then the disk, the store or the model is what fails


@dataclass(frozen=True)
class BatchSettings:
    """What the files of a batch depend on beside its rows. image_format: png or webp. device, backend: "" for the model's.

    features: whether faces are embedded; recognizer: a recognizer's TOML file, "" for dlib's; inception: as `load_inception`
    takes it, "" for none.
    """

    image_format: str = "png"
    device: str = ""
    backend: str = ""
    features: bool = False
    recognizer: str = ""
    inception: str = ""
    rows_per_shard: int = ROWS_PER_SHARD

    @property
    def recorded(self) -> dict[str, Any]:
        """For plan.json: without folders of this machine, or an address that may hold a password."""
        return asdict(self) | {"recognizer": Path(self.recognizer).name, "inception": self.inception != ""}


DEFAULT_SETTINGS, THIS_PROCESS = BatchSettings(), Workers()


@dataclass(frozen=True)
class ShardResult:
    """What became of a shard. drawn: now, or it was there. damage: why it was drawn again, "" if it was not there."""

    index: int
    report: ShardReport
    drawn: bool
    damage: str = ""


@dataclass
class BatchProgress:
    """How far a batch is. rows: those of finished shards, of total; bad: of these, without a picture. message: what to tell."""

    total: int
    rows: int = 0
    bad: int = 0
    message: str = ""


@dataclass(frozen=True)
class BatchResult:
    """A finished batch. num_bad: rows without a picture; bad: the first of them. redrawn: shards that were damaged."""

    plan: Plan
    pictures: int
    num_bad: int
    bad: Sequence[dict[str, Any]]
    seconds: float
    redrawn: int


def make_model_drawer(root: str, settings: BatchSettings) -> Drawer:
    """What draws by models. root: the folder in which people's paths begin."""
    from tenth.experiments.batch.drawing import ModelDrawer  # torch, which planning does without

    return ModelDrawer(Path(root), settings.image_format, settings.device, settings.backend)


class ShardRunner:
    """Draws a shard, unless it is there and whole. folder: in which the command was given, where paths begin."""

    def __init__(self, address: str, settings: BatchSettings, folder: str, make_drawer: Callable[[], Drawer]) -> None:
        with suppress(OSError):
            os.chdir(folder)  # a worker of Ray's begins elsewhere
        self.store, self.settings = open_store(address), settings
        self.drawer, self.extractors = cache(make_drawer), cache(partial(_load_extractors, settings))

    def __call__(self, index: int) -> ShardResult:
        damage, report = "", None
        try:
            report = check_shard(self.store, index, self._row_digests[index])
        except DataError as problem:
            damage = problem.found
        rows = read_shard_rows(self.store, index, self._row_digests[index]) if report is None or report.bad else []
        if report is not None and self._still_bad(report, rows):
            return ShardResult(index, report, drawn=False)
        return ShardResult(index, self._draw(index, rows), drawn=True, damage=damage)

    @cached_property
    def _row_digests(self) -> list[str]:
        """sha256 of each file of rows, as they were planned: others give other pictures, or fewer."""
        plan = read_plan(self.store)
        if plan is None:
            found = f"{self.store.address} has no plan.json any more"
            raise DataError(found, "the plan is needed until all is drawn", "Run the same again")
        return read_row_digests(self.store, plan)

    def _still_bad(self, report: ShardReport, rows: Sequence[BatchRow]) -> bool:
        """Whether no bad row of a shard has been mended since; then nothing of it is drawn again."""
        bad = {each["id"] for each in report.bad}
        return all(each.error is not None for each in self.drawer()([row for row in rows if row.id in bad])) if bad else True

    def _draw(self, index: int, rows: Sequence[BatchRow]) -> ShardReport:
        if not self.settings.features:
            return write_shard(self.store, index, self.drawer()(rows))
        from tenth.experiments.batch.features import FeatureCollector

        return write_shard(self.store, index, self.drawer()(rows), FeatureCollector(self.extractors()))


def _load_extractors(settings: BatchSettings) -> dict[str, Any]:
    from tenth.evaluation.extractors.loading import NetworkSources
    from tenth.experiments.batch.features import load_extractors

    return dict(load_extractors(settings.recognizer, NetworkSources(settings.inception)))


def run_batch(
    path: Path,
    address: str,
    settings: BatchSettings = DEFAULT_SETTINGS,
    workers: Workers = THIS_PROCESS,
    make_drawer: Callable[[], Drawer] | None = None,
    on_progress: Callable[[BatchProgress], None] | None = None,
) -> BatchResult:
    """Draw every row of a plan. What is there already stays; a batch that was stopped goes on, and ends with the same bytes.

    path: as `read_plan_rows` reads it. address: a folder, or a URL of fsspec's. make_drawer: what draws, if not models. Raises
    InputError for a plan or a store that cannot be used, and DataError, after all others were drawn, for shards that could not
    be. Bad rows are in the result.
    """
    store = open_store(address)
    current_signer()  # what cannot be signed is not drawn
    if settings.features:
        _load_extractors(settings)  # files that the user may have to mend come first
    make_drawer = make_drawer or partial(make_model_drawer, str(path.absolute().parent), settings)
    with store.locked():
        scratch = store.folder if isinstance(store, FolderStore) else None
        plan = plan_batch(path, store, settings.recorded, scratch)
        read_row_digests(store, plan)  # a damaged list would fail every shard
        store.remove_leftovers()
        make_runner = partial(ShardRunner, store.address, settings, str(Path.cwd()), make_drawer)
        tally = _Tally(plan, BatchProgress(plan.rows), on_progress)
        try:
            outcomes = run_tasks(make_runner, range(plan.shards), **asdict(workers))
            with closing(outcomes):  # type: ignore[type-var]  # a generator, which ends its workers
                for outcome in outcomes:
                    tally.add(outcome.task, outcome.result, outcome.error)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("The same command goes on where this one stopped") from None
        finally:
            store.remove_leftovers()  # of workers that were lost
        tally.check_all_drawn()
        return tally.write_record(store)


class _Tally:
    """What became of the shards so far. Takes a few bytes for each."""

    def __init__(self, plan: Plan, progress: BatchProgress, on_progress: Callable[[BatchProgress], None] | None) -> None:
        self.plan, self.progress, self.on_progress = plan, progress, on_progress
        self.digests: dict[int, bytes] = {}
        self.bad_shards: list[int] = []
        self.failed: list[tuple[int, InputError]] = []
        self.failed_in_a_row, self.pictures, self.seconds, self.redrawn = 0, 0, 0.0, 0

    def add(self, index: int, result: ShardResult | None, error: InputError | None) -> None:
        """What became of a shard. Raises InputError if several failed one after the other."""
        if result is None or error is not None:
            self.failed_in_a_row += 1
            self.failed.append((index, error or DataError("nothing", "a result is needed", "Run the same again")))
            self._tell(f"shard {index:05d} was not drawn: {self.failed[-1][1]}")
            if self.failed_in_a_row == MAX_FAILED_SHARDS:
                raise self._failure()
            return
        self.failed_in_a_row = 0
        report = result.report
        self.digests[index] = bytes.fromhex(report.digest)
        self.pictures, self.seconds = self.pictures + report.rows, self.seconds + report.seconds
        self.progress.rows += report.rows + len(report.bad)
        self.progress.bad += len(report.bad)
        if report.bad:
            self.bad_shards.append(index)
        self.redrawn += bool(result.damage)
        self._tell(f"{result.damage}: shard {index:05d} was drawn again" if result.damage else "")

    def check_all_drawn(self) -> None:
        """Raises DataError if a shard failed."""
        if self.failed:
            raise self._failure()

    def write_record(self, store: Store) -> BatchResult:
        """Write batch.json, and return what it says."""
        num_bad, bad = self.plan.bad_rows + self.progress.bad, list(self._bad_rows(store))
        pictures_digest = hashlib.sha256(b"".join(self.digests[index] for index in sorted(self.digests))).hexdigest()
        results = {
            "pictures": self.pictures,
            "shards": self.plan.shards,
            "duplicates": self.plan.duplicates,
            "bad_rows": num_bad,
            "first_bad_rows": bad,
            "seconds": round(self.seconds, 3),
            "sha256": pictures_digest,  # of the reports, which have that of each file
        }
        text = record_text(command="batch", settings=asdict(self.plan), results=results)
        with store.writing(RECORD_FILE) as file:
            file.write(text.encode())
        return BatchResult(self.plan, self.pictures, num_bad, bad, self.seconds, self.redrawn)

    def _bad_rows(self, store: Store) -> Iterator[dict[str, Any]]:
        """The first bad rows: those that the plan has, then those that could not be drawn, by shard."""

        def every_one() -> Iterator[dict[str, Any]]:
            if self.plan.bad_rows:
                with store.open(BAD_ROWS_FILE) as file:
                    for line in file:
                        yield {"error": parse_json(line.decode())}
            for index in sorted(self.bad_shards):
                report = read_report(store, index)
                yield from ({**each} for each in (report.bad if report else ()))

        return islice(every_one(), MAX_LISTED)

    def _tell(self, message: str) -> None:
        self.progress.message = message
        if self.on_progress is not None:
            self.on_progress(self.progress)

    def _failure(self) -> DataError:
        index, error = self.failed[0]
        found = f"{pluralize(len(self.failed), 'shard')} of {self.plan.shards:,} could not be drawn; {index:05d}: {error.found}"
        return DataError(found, error.needed, f"{error.action}; the same command then goes on")
