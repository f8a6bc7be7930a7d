"""Many jobs of a stub executor and several workers at once: `queue_of_many.py DIR JOBS WORKERS`.

Each worker is a process, and writes a line for each job that its executor gets. Prints a line of JSON: how often each job was
executed, how many were done, and how many jobs a second were claimed and finished.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tenth.server.queue.queue import JobQueue
from tenth.server.storage.database import Database
from toy_jobs import PYTHONPATH


def main() -> None:
    folder, count, workers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    database = Database(folder / "data")
    queue = JobQueue(database, max_queued=count)
    start = time.monotonic()
    for number in range(count):
        queue.submit(owner="", kind="stub", payload={"number": number, "log": str(folder)})
    submitted = time.monotonic() - start

    # The clock runs from the first job on: how long processes take to start is no matter of the queue's.
    command = [sys.executable, "-m", "tenth.server.queue.worker", str(database.folder), "--executor", "toy_executors:stub"]
    processes = [subprocess.Popen(command, env=os.environ | {"PYTHONPATH": PYTHONPATH}) for _ in range(workers)]
    while queue.counts() != {"queued": 0, "running": 0}:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.1)
    for process in processes:
        process.terminate()
    codes = [process.wait() for process in processes]

    ((first, last),) = database.rows("SELECT min(started), max(finished) FROM jobs")
    executed = Counter(line for path in folder.glob("*.log") for line in path.read_text().split())
    numbers = [job["result"] for job in database.rows("SELECT result FROM jobs WHERE status = 'done' AND attempts = 1")]
    print(
        json.dumps(
            {
                "jobs": count,
                "done at the first attempt": len(numbers),
                "each once": sorted(executed) == sorted(map(str, range(count))) and set(executed.values()) == {1},
                "own result": sorted(json.loads(each)["number"] for each in numbers) == list(range(count)),
                "workers": len(list(folder.glob("*.log"))),
                "codes": codes,
                "submitted a second": round(count / submitted),
                "claimed and finished a second": round(count / (last - first)),
            }
        )
    )


if __name__ == "__main__":
    main()
