"""What docs/scale.md counts with: seconds of one core for a picture and for an identity, kB a picture, GB of memory a worker.

    python benchmarks/batch_costs.py [--tiny]

`tenth batch` draws three plans of the example photos by one worker with one thread, on each backend, each in a new process:
few pictures of one person, many of one person, and many of several people under names of their own. Seconds are the CPU's, of
the command and its worker; what all plans have in common, such as loading the model, is subtracted. The last line is JSON.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from batch_throughput import write_plan

from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

TINY = "--tiny" in sys.argv
FEW, MANY, PEOPLE = (1, 2, 2) if TINY else (40, 240, 20)
BACKENDS = ("torch",) if TINY else ("torch", "openvino")  # the one of less memory first


def draw(folder: Path, backend: str, rows: int, people: int) -> tuple[float, int, int]:
    """Seconds of CPU, bytes of the shards, and the largest process's kilobytes so far."""
    name = f"{backend}-{rows}-{people}"
    plan = write_plan(folder / f"{name}.jsonl", rows, people)
    command = [sys.executable, "-m", "tenth.cli", "batch", str(plan), "-o", str(folder / name)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "--workers", "1", "--backend", backend], check=True, **silent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, sum(path.stat().st_size for path in (folder / name / "shards").iterdir()), after.ru_maxrss


def costs(folder: Path, backend: str) -> dict[str, float]:
    if not TINY:
        draw(folder, backend, 1, 1)  # what is converted once, and kept
    few, _, _ = draw(folder, backend, FEW, 1)
    many, size, kilobytes = draw(folder, backend, MANY, 1)
    several, _, _ = draw(folder, backend, MANY, PEOPLE)
    return {
        "seconds_per_picture": round((many - few) / (MANY - FEW), 3),
        "seconds_per_identity": round((several - many) / (PEOPLE - 1), 3),
        "kilobytes_per_picture": round(size / MANY / 1e3, 1),
        "gigabytes_per_worker": round(kilobytes * 1024 / 1e9, 2),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["TENTH_DATA_DIR"] = str(folder / "data")
        (folder / "people").mkdir()
        for person in range(PEOPLE):
            (folder / "people" / f"{person:06d}").symlink_to(EXAMPLE_PHOTOS_DIR)
        found = {backend: costs(folder, backend) for backend in BACKENDS}
    print(json.dumps({"name": "batch_costs", **found}))


if __name__ == "__main__":
    main()
