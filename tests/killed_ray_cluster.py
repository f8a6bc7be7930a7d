"""A batch on a Ray cluster, killed at random moments: `killed_ray_cluster.py DIR PICTURES KILLS SEED [SECONDS] [pocket]`.

The batch is drawn once by two processes of this machine, without a disturbance. Then by a cluster of three node processes,
while a worker, a node, the command or the cluster's head is killed with SIGKILL at a moment that is drawn by chance. A node
that was killed is replaced, a cluster whose head was killed is started anew, and the same command is given again, until all
kills are done and the batch is. A batch that is done too early is begun again in another folder. SECONDS: how long the stub
takes for a picture. With `pocket` the pictures are the model's, of the example photos under 53 names. Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from toy_batch import write_plan
from toy_cluster import RayNodes
from toy_jobs import PYTHONPATH, ROOT

EACH, SHARDS, LIMIT = 20, 40, 3000  # pictures of a person; shards of all; seconds of everything
BEGIN_SECONDS, LONGEST = 4.0, 24.0  # between a command and a kill: those in which it begins, and at most
POCKET_PEOPLE = 53
LOST_HEAD = "the connection to the Ray cluster is lost"
NO_CLUSTER = "no Ray cluster answers"


class Batch:
    """A plan, the command that draws it, and where."""

    def __init__(self, plan: Path, output: Path, rows_per_shard: int, *, pocket: bool) -> None:
        script = ["-m", "tenth.cli"] if pocket else [str(ROOT / "tests/toy_batch.py")]
        self.command = [sys.executable, *script, "batch", str(plan), "-o", str(output), "--rows-per-shard", str(rows_per_shard)]
        self.output, self.log = output, output.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None
        self.begun = 0.0

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([*self.command, *options], stdout=log, stderr=log)
        self.begun = time.monotonic()

    @property
    def status(self) -> int | None:
        assert self.process is not None
        return self.process.poll()

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(LIMIT)

    def digests(self) -> dict[str, str]:
        """Of the shards that are said to be done."""
        return {path.stem: json.loads(path.read_text())["sha256"] for path in (self.output / "shards").glob("*.done")}

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "batch.json").read_text())["results"]
        return found

    def pictures(self) -> Counter[str]:
        """How often each row's picture is in the shards."""
        counts: Counter[str] = Counter()
        for path in (self.output / "shards").glob("*.tar"):
            with tarfile.open(path) as tar:
                counts.update(Path(name).stem for name in tar.getnames() if not name.endswith(".json"))
        return counts


def kill(who: str, nodes: RayNodes, batch: Batch, rng: random.Random) -> bool:
    """Kill somebody, if there is such a one."""
    assert batch.process is not None
    if who == "worker":
        workers = [each for each in psutil.process_iter() if is_worker(each)]
        with suppress(psutil.NoSuchProcess, IndexError):
            rng.choice(workers).kill()
            return True
        return False
    if who == "node":
        nodes.kill_node(rng.randrange(len(nodes.nodes)))
        nodes.add_node()
    elif who == "driver":
        batch.process.kill()
        batch.process.wait()
    else:
        nodes.kill_head()
        status = batch.wait()
        assert status == 1, status
        assert LOST_HEAD in (text := batch.log.read_text(errors="replace")[-20_000:]) or NO_CLUSTER in text
        nodes.stop()
        nodes.start()
    return True


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a worker of this cluster that has begun."""
    try:
        return " ".join(process.cmdline()).startswith("ray::Runner") and process.environ().get("KILLED_HERE") == str(
            os.getpid()
        )
    except psutil.Error:
        return False


def make_plan(work: Path, pictures: int, *, pocket: bool) -> Path:
    if not pocket:
        return write_plan(work / "plan.jsonl", pictures // EACH, EACH)
    for person in range(POCKET_PEOPLE):
        shutil.copytree(EXAMPLE_PHOTOS_DIR, work / f"people/{person:02d}", dirs_exist_ok=True)
    rows = [
        {"person": f"people/{n % POCKET_PEOPLE:02d}", "prompt": "a portrait photo of a person", "seed": n}
        for n in range(pictures)
    ]
    (work / "plan.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return work / "plan.jsonl"


def main() -> None:
    work, pictures, kills, seed = Path(sys.argv[1]).absolute(), *map(int, sys.argv[2:5])
    pocket, rng = sys.argv[-1] == "pocket", random.Random(seed)
    work.mkdir(parents=True)
    os.environ |= {"TENTH_DATA_DIR": str(work / "marks"), "PYTHONPATH": PYTHONPATH, "KILLED_HERE": str(os.getpid())}
    os.environ["RAY_DEDUP_LOGS"] = "0"
    plan, rows_per_shard = make_plan(work, pictures, pocket=pocket), max(1, pictures // SHARDS)
    undisturbed = Batch(plan, work / "undisturbed", rows_per_shard, pocket=pocket)
    start = time.monotonic()
    undisturbed.start("--workers", "2")
    assert undisturbed.wait() == 0
    expected, undisturbed_seconds = undisturbed.digests(), time.monotonic() - start

    # Pictures take so long that there is work for some kills in each round.
    os.environ["TOY_BATCH_SECONDS"] = sys.argv[5] if len(sys.argv) > 5 and not pocket else "0"
    killed, commands, falsely_done = dict.fromkeys(("worker", "node", "driver", "head"), 0), 0, 0
    rounds: list[Batch] = []
    start = time.monotonic()
    with RayNodes() as nodes:
        while not rounds or rounds[-1].status != 0 or sum(killed.values()) < kills:
            if not rounds or rounds[-1].status == 0:
                rounds.append(Batch(plan, work / f"killed-{len(rounds)}", rows_per_shard, pocket=pocket))
            batch = rounds[-1]
            if batch.process is None or batch.status is not None:
                batch.start("--ray", nodes.address)
                commands += 1
            if sum(killed.values()) == kills:
                batch.wait()
                continue
            # Somebody is killed, unless the batch was done before.
            with suppress(subprocess.TimeoutExpired):
                assert batch.process is not None
                batch.process.wait(BEGIN_SECONDS + rng.uniform(0.0, LONGEST - BEGIN_SECONDS))
            who = rng.choice(list(killed))
            if batch.status is None and kill(who, nodes, batch, rng):
                killed[who] += 1
            falsely_done += sum(expected[name] != digest for name, digest in batch.digests().items())
            assert time.monotonic() - start < LIMIT, killed

    same = [batch.digests() == expected and batch.record()["sha256"] == undisturbed.record()["sha256"] for batch in rounds]
    once = [batch.pictures() == undisturbed.pictures() and set(batch.pictures().values()) == {1} for batch in rounds]
    figures = {
        "pictures": sum(rounds[-1].pictures().values()),
        "shards": len(expected),
        "killed": killed,
        "rounds": len(rounds),
        "commands": commands,
        "falsely done": falsely_done,
        "each once": all(once),
        "same": all(same),
        "seconds undisturbed": round(undisturbed_seconds),
        "seconds": round(time.monotonic() - start),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
