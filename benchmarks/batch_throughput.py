"""What a batch costs: by a loop, by processes of this machine and by Ray; and from a thousand rows to a hundred thousand.

    python benchmarks/batch_throughput.py [--tiny]

The pocket model's pictures are drawn by one process with one thread, by two such processes, by the two actors of a Ray cluster
that is started here, and by one process with two threads, in turns (the first one once). A round is measured from its first
finished shard to its last, so that loading the model and starting Ray do not count. ratio: pictures a second by Ray over those
by processes. Then a stub draws 1e3 to 1e5 rows in one process: slope is that of the logarithm of its seconds of CPU over that
of the rows. The last line is all of it as JSON.
"""

import json
import math
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # of the loop, as of the workers

from tenth.core.workers.attempts import Workers
from tenth.experiments.batch.rows import BatchRow
from tenth.experiments.batch.run import BatchProgress, BatchSettings, run_batch
from tenth.experiments.batch.shards import DrawnRow
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

TINY = "--tiny" in sys.argv
CORES, ROUNDS = (1, 1) if TINY else (2, 3)
SHARDS, ROWS_PER_SHARD = (3, 1) if TINY else (30, 16)
SIZES = (100, 300, 1000) if TINY else (1000, 3162, 10_000, 31_623, 100_000)
PICTURE = b"\x89PNG" + bytes(30_000)  # as large as one of the pocket model's
HOWS = {
    "loop": Workers(),
    "processes": Workers(CORES),
    "ray": Workers(CORES, "local"),
    "threads": Workers(1, threads=CORES),
}


class Stub:
    """Draws in no time."""

    def __call__(self, rows: Sequence[BatchRow], /) -> Iterator[DrawnRow]:
        return (DrawnRow(row, PICTURE, "png", {"settings": {"seed": row.seed}}) for row in rows)


def write_plan(path: Path, rows: int, people: int) -> Path:
    each = (
        {"person": f"people/{row % people:06d}", "prompt": "a portrait photo of a person", "seed": row} for row in range(rows)
    )
    with path.open("w", encoding="utf-8") as file:  # not joined first: this process's memory is measured
        file.writelines(f"{json.dumps(row)}\n" for row in each)
    return path


def pictures_per_second(plan: Path, output: Path, workers: Workers) -> float:
    ended: list[tuple[float, int]] = []

    def report(progress: BatchProgress) -> None:
        ended.append((time.perf_counter(), progress.rows))

    run_batch(plan, str(output), BatchSettings(rows_per_shard=ROWS_PER_SHARD), workers, on_progress=report)
    (first, rows_before), (last, rows) = ended[0], ended[-1]
    return (rows - rows_before) / (last - first)


def compare(folder: Path) -> dict[str, float]:
    (folder / "people").mkdir()
    (folder / "people/000000").symlink_to(EXAMPLE_PHOTOS_DIR)
    plan = write_plan(folder / "plan.jsonl", SHARDS * ROWS_PER_SHARD, people=1)
    found: dict[str, list[float]] = {how: [] for how in HOWS}
    for turn in range(ROUNDS):
        for how, workers in HOWS.items():
            if how == "loop" and turn > 0:
                continue
            found[how].append(pictures_per_second(plan, folder / f"{how}-{turn}", workers))
            print(f"{how:10} {found[how][-1]:.3f} pictures a second", flush=True)
    return {how: statistics.median(values) for how, values in found.items()}


def scale(folder: Path) -> tuple[dict[int, float], dict[int, float]]:
    """Seconds of CPU and megabytes of memory at most, by the number of rows."""
    seconds, megabytes = {}, {}
    for rows in (50, *SIZES):  # the first one imports
        plan = write_plan(folder / f"{rows}.jsonl", rows, people=max(1, rows // 20))
        start = time.process_time()
        run_batch(plan, str(folder / str(rows)), make_drawer=Stub)
        seconds[rows] = time.process_time() - start
        megabytes[rows] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{rows:7} rows {seconds[rows]:8.3f} s {1e3 * seconds[rows] / rows:.3f} ms a row, at most {megabytes[rows]:.0f} MB",
            flush=True,
        )
    return {rows: seconds[rows] for rows in SIZES}, {rows: megabytes[rows] for rows in SIZES}


def slope_of(seconds: dict[int, float]) -> float:
    """By least squares, of the logarithms."""
    x, y = [math.log(rows) for rows in seconds], [math.log(value) for value in seconds.values()]
    return statistics.linear_regression(x, y).slope


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TENTH_DATA_DIR"] = str(Path(folder) / "data")
        seconds, megabytes = scale(Path(folder))
        speeds = compare(Path(folder))
    result = {
        "name": "batch_throughput",
        "ratio": round(speeds["ray"] / speeds["processes"], 3),
        "pictures_per_second": {how: round(value, 3) for how, value in speeds.items()},
        "processes_over_loop": round(speeds["processes"] / speeds["loop"], 3),
        "slope": round(slope_of(seconds), 3),
        "milliseconds_per_row": {rows: round(1e3 * value / rows, 4) for rows, value in seconds.items()},
        "megabytes": {rows: round(value) for rows, value in megabytes.items()},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
