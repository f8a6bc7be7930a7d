"""A batch whose driver and workers are killed at any moment: `killed_batch.py DIR ROWS KILLS SEED`.

The command runs in a process of its own with two workers. After a time that is drawn by chance the command gets SIGKILL, and is
given again; or one of the workers does, once something was drawn since the last. At the end every byte is compared with a batch
that nothing disturbed. Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tenth.experiments.batch.plan import read_plan
from tenth.experiments.batch.run import BatchSettings, run_batch
from tenth.experiments.batch.shards import iterate_samples, read_shard_rows
from tenth.experiments.batch.store import open_store
from toy_batch import StubDrawer, write_plan

ROWS_PER_SHARD, MAX_SECONDS = 25, 1.0


def start(plan: Path, out: Path) -> subprocess.Popen[bytes]:
    words = ["batch", str(plan), "-o", str(out), "--workers", "2", "--rows-per-shard", str(ROWS_PER_SHARD)]
    command = [sys.executable, str(Path(__file__).with_name("toy_batch.py")), *words]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TOY_BATCH_SECONDS": "0.01"}
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def entries(folder: Path) -> set[str]:
    """Names, those of temporary files as well, of which each is another one's."""
    return {path.name for path in folder.glob("*")}


def contents(out: Path) -> dict[str, bytes]:
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.endswith((".done", "batch.json"))}


def main() -> None:
    work, rows, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))
    work.mkdir()
    plan = write_plan(work / "plan.jsonl", rows // 10, 10)
    run_batch(plan, str(work / "undisturbed"), BatchSettings(rows_per_shard=ROWS_PER_SHARD), make_drawer=StubDrawer)

    # Whoever is killed: the command, or one of its workers, which another one takes the place of.
    killed = {"driver": 0, "worker": 0}
    process = start(plan, work / "killed")
    while sum(killed.values()) < kills:
        of_worker, before = rng.random() < 0.5, entries(work / "killed/shards")
        while of_worker and entries(work / "killed/shards") <= before and process.poll() is None:
            time.sleep(0.02)
        time.sleep(MAX_SECONDS * rng.random())
        if process.poll() is not None:  # done before its time: what it did is taken away again
            for path in (work / "killed/shards").glob("*.done"):
                path.unlink()
            process = start(plan, work / "killed")
            continue
        if of_worker:
            with suppress(ProcessLookupError, psutil.NoSuchProcess, IndexError):  # it has ended meanwhile
                os.kill(rng.choice(psutil.Process(process.pid).children()).pid, signal.SIGKILL)
                killed["worker"] += 1
        else:
            process.kill()
            process.wait()
            killed["driver"] += 1
            process = start(plan, work / "killed")
    assert process.wait() == 0, (work / "killed.log").read_text()

    # Every row is there, once.
    store = open_store(str(work / "killed"))
    num_shards = getattr(read_plan(store), "shards", 0)
    found = [row.id for index in range(num_shards) for row, _, _ in iterate_samples(store, index)]
    expected = [row.id for index in range(num_shards) for row in read_shard_rows(store, index)]
    ours, theirs = contents(work / "killed"), contents(work / "undisturbed")
    other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    print(json.dumps({"killed": killed, "images": len(set(found)), "each once": found == expected, "other": other}))


if __name__ == "__main__":
    main()
