"""A server's workers and their supervisor, killed at random moments: `killed_server_queue.py DIR JOBS KILLS SEED [pocket]`.

The jobs are done once without a disturbance. Then again, while the worker, the supervisor or both are killed with SIGKILL at a
moment that is drawn by chance, and a new supervisor is started where there is none. All the while each job that is said to be
done must have its pictures, as they are in the undisturbed run. A job that fails, as its worker was killed three times at one
place, is tried again, as its user would. Prints a line of JSON.

The workers draw flat colors; with `pocket` the supervisor is a whole `tenth serve`, whose worker draws a person by the model.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tenth.core.config import to_table
from tenth.experiments.generation.request import ImageRequest
from tenth.methods.people.folder import PeopleFolder
from tenth.methods.people.record import Consent
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR
from tenth.server.queue.job import Job
from tenth.server.queue.queue import JobQueue
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database
from tenth.server.storage.pictures import Pictures
from toy_jobs import PYTHONPATH

STEPS, LIMIT, LONGEST = 5, 3000, 3.0  # of a picture; seconds of everything, and between a start and a kill
POCKET_LONGEST = 16.0  # a worker of it takes some 8 seconds to begin, on a busy machine
PROMPT = "a portrait photo of a person"


class Server:
    """A data folder with its queue, and the supervisor that works on it."""

    def __init__(self, folder: Path, jobs: int, *, pocket: bool, seconds: float = 0.0) -> None:
        self.database, self.pocket = Database(folder), pocket
        self.queue = JobQueue(self.database, max_queued=jobs)
        self.pictures = Pictures(self.database, Blobs(self.database))
        self.supervisor: subprocess.Popen[bytes] | None = None
        if pocket:
            PeopleFolder(folder / "people").save("anna", Consent("self"), sorted(EXAMPLE_PHOTOS_DIR.glob("*.png")))
        for number in range(jobs):
            seed, count = 10 * number, (4 if pocket else 1) + number % 2
            if pocket:
                request = to_table(ImageRequest((PROMPT,), num_images=count, seed=seed))
                payload = {"seed": seed, "person": "anna", "photos": [], "request": request}
                self.queue.submit(owner="", kind="images", payload=payload, person="anna")
            else:
                payload = {"seed": seed, "num_images": count, "steps": STEPS, "seconds": seconds / STEPS}
                self.queue.submit(owner="", kind="flat", payload=payload)

    def start(self) -> None:
        if self.supervisor is None or self.supervisor.poll() is not None:
            command = [sys.executable, "-m", "tenth.server.queue.supervisor", str(self.database.folder)]
            command += ["--executor", "toy_executors:flat_color"]
            if self.pocket:
                command = [sys.executable, "-m", "tenth.cli", "serve", "--port", "0", "--data", str(self.database.folder)]
            self.supervisor = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": PYTHONPATH})

    def stop(self) -> None:
        if self.supervisor is not None:
            self.supervisor.terminate()
            self.supervisor.wait()

    def kill(self, who: str) -> int:
        """Kill the supervisor, its workers or both; how many processes those were."""
        assert self.supervisor is not None
        killed: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            supervisor = psutil.Process(self.supervisor.pid)
            workers = [child for child in supervisor.children() if "tenth.server.queue.worker" in child.cmdline()]
            killed = {"worker": workers, "supervisor": [supervisor], "both": [supervisor, *workers]}[who]
            for process in killed:
                process.kill()
        if who != "worker":
            self.supervisor.wait()
        return len(killed)

    def jobs(self) -> list[Job]:
        return list(self.queue.list("", limit=500))

    def is_done(self) -> bool:
        return all(job.status == "done" for job in self.jobs())

    def shown(self, job: Job) -> list[tuple[int, str]]:
        """Seeds and contents of a job's pictures, as they are on the disk."""
        found = [self.pictures.get(picture, "") for picture in job.pictures]
        contents = [(picture.seed, self.pictures.path(picture).read_bytes()) for picture in found if picture]
        return [(seed, hashlib.sha256(content).hexdigest()) for seed, content in contents]


def by_seed(server: Server) -> dict[int, list[tuple[int, str]]]:
    return {job.payload["seed"]: server.shown(job) for job in server.jobs() if job.status == "done"}


def wait(server: Server) -> None:
    deadline = time.monotonic() + LIMIT
    while not server.is_done():
        assert time.monotonic() < deadline, server.queue.counts()
        for job in server.jobs():
            if job.status == "failed":
                server.queue.retry(job.id, "")
        time.sleep(0.1)


def main() -> None:
    work, count, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))
    pocket = sys.argv[5:] == ["pocket"]
    longest = POCKET_LONGEST if pocket else LONGEST
    os.environ["TENTH_DATA_DIR"] = str(work / "marks")  # one key for both: equal pictures, equal bytes
    undisturbed = Server(work / "undisturbed", count, pocket=pocket)
    undisturbed.start()
    start = time.monotonic()
    wait(undisturbed)
    undisturbed.stop()
    expected = by_seed(undisturbed)

    # Pictures take so long that there is work until the last moment.
    server = Server(work / "killed", count, pocket=pocket, seconds=LONGEST * kills / count)
    falsely_done, retried, killed = 0, 0, dict.fromkeys(("worker", "supervisor", "both"), 0)
    while sum(killed.values()) < kills:
        server.start()
        time.sleep(rng.uniform(0.0, longest))
        who = rng.choice(list(killed))
        if server.kill(who):
            killed[who] += 1
        falsely_done += sum(expected[seed] != shown for seed, shown in by_seed(server).items())
        for job in server.jobs():
            if job.status == "failed":
                retried += 1
                server.queue.retry(job.id, "")
    unfinished = sum(job.status != "done" for job in server.jobs())
    server.start()
    wait(server)
    server.stop()

    # Each picture once, and nothing that belongs to none.
    seeds = sorted(picture.seed for picture in server.pictures.page("", limit=500))
    files = [path for path in (server.database.folder / "blobs").rglob("*") if path.is_file()]
    print(
        json.dumps(
            {
                "jobs": len(server.jobs()),
                "killed": killed,
                "unfinished after the last": unfinished,
                "retried": retried,
                "falsely done": falsely_done,
                "pictures": len(seeds),
                "each once": seeds == sorted(seed for shown in expected.values() for seed, _ in shown),
                "same": by_seed(server) == expected,
                "other files": len(files) - len(seeds),
                "seconds": round(time.monotonic() - start),
            }
        )
    )


if __name__ == "__main__":
    main()
