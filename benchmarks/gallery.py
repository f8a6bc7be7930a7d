"""The first page of a gallery of a million pictures: seconds, beside those of a thousand pictures.

The rows are those of jobs that are done, with settings and figures as an image of the pocket model has them; files are not
written. seconds: medians over ROUNDS of the newest page, of one person's, of a page in the middle, of the number of all
pictures; and once the first page of a database that was just opened. Options: --tiny (for a test of this file), --folder=DIR
(where the database is written, about 1.2 GB; by default a temporary folder). Prints one JSON object as its last line. ratio:
seconds of the newest page of the large gallery over the small one's.
"""

import json
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tenth.server.queue.job import to_json
from tenth.server.queue.job_rows import new_id
from tenth.server.storage.blobs import Blobs
from tenth.server.storage.database import Database, insert
from tenth.server.storage.pictures import Pictures

TINY = "--tiny" in sys.argv
SMALL, LARGE = (20, 2_000) if TINY else (1_000, 1_000_000)
PER_JOB, PEOPLE, ROUNDS, PAGE = 4, 50, 21, 50
SETTINGS = to_json(
    {"prompt": "a photo of a person, a smiling woman with a hat, at the sea", "seed": 0, "steps": 25, "guidance_scale": 3.0}
    | {"negative_prompt": "blurred", "model": "pocket", "method": "ip-adapter-consensus", "scheduler": "ddim", "size": 128}
)


def write_gallery(folder: Path, count: int) -> None:
    database = Database(folder)
    with database.transaction() as transaction:
        for number in range(count):
            job, person = f"job{number // PER_JOB}", f"person {number // PER_JOB % PEOPLE}"
            shared: dict[str, object] = {"owner": "", "person": person, "created": float(number)}
            if number % PER_JOB == 0:
                state = {"status": "done", "priority": 0, "num_pictures": PER_JOB, "change": number}
                insert(transaction, "jobs", id=job, kind="images", key=job, payload=SETTINGS, **state, **shared)
            place = {"number": number, "id": new_id(number), "job": job, "position": number % PER_JOB}
            content = {"sha256": secrets.token_hex(32), "seed": number, "settings": SETTINGS, "figures": '{"identity":0.51}'}
            insert(transaction, "pictures", **place, **content, **shared, width=128, height=128)
        transaction.execute("INSERT INTO blob_uses SELECT sha256, 'picture:' || id, NULL FROM pictures")
    database.close()


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(statistics.median(times), 6)


def measure(folder: Path, count: int) -> dict[str, float]:
    write_gallery(folder, count)
    opened = Database(folder)
    pictures = Pictures(opened, Blobs(opened))
    pages = {
        "just opened": seconds(lambda: pictures.page("", limit=PAGE), rounds=1),
        "newest": seconds(lambda: pictures.page("", limit=PAGE)),
        "person": seconds(lambda: pictures.page("", "person 7", limit=PAGE)),
        "middle": seconds(lambda: pictures.page("", before=new_id(count // 2), limit=PAGE)),
        "count": seconds(lambda: pictures.count("")),
    }
    assert len(pictures.page("", limit=PAGE)) == min(PAGE, count)
    assert pictures.count("") == count
    return pages


def main() -> None:
    place = next((word.partition("=")[2] for word in sys.argv if word.startswith("--folder=")), None)
    with tempfile.TemporaryDirectory(dir=place) as folder:
        small, large = measure(Path(folder) / "small", SMALL), measure(Path(folder) / "large", LARGE)
        megabytes = round((Path(folder) / "large/server.db").stat().st_size / 1e6)
    result = {"name": "gallery", "pictures": {"small": SMALL, "large": LARGE}, "megabytes": megabytes}
    ratio = round(large["newest"] / small["newest"], 2)
    print(json.dumps(result | {"seconds": {"small": small, "large": large}, "ratio": ratio}))


if __name__ == "__main__":
    main()
