"""A file of prompts whose run is killed and begun again: `killed_rows.py DIR ROWS KILLS SEED`.

A process is killed at a moment that is drawn by chance while it writes to its folder, as in killed_commands.py; then the same
command goes on in the same folder, and is killed again. At the end every byte is compared with a run that nothing disturbed.
Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path

from tenth.core.files.png_metadata import read_sample
from toy_commands import Trial, prepare

PROMPTS = ("a photo of a person", "a smiling woman with a hat", "an old man")


def write_rows(path: Path, count: int) -> list[dict[str, object]]:
    """Rows of several prompts, negative prompts and sizes, each with a seed of its own."""
    rows: list[dict[str, object]] = [{"prompt": PROMPTS[number % 3], "seed": 7 * number} for number in range(count)]
    for row in rows[::5]:
        row["negative_prompt"] = "a beard"
    for row in rows[::4]:
        row["size"] = 64
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return rows


def main() -> None:
    work, count, kills, rng = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))
    work.mkdir()
    prepare(work)
    rows = write_rows(work / "rows.jsonl", count)
    for name in ("undisturbed", "killed"):
        (work / name).mkdir()
    undisturbed, trial = (Trial("rows", work, work / name) for name in ("undisturbed", "killed"))
    assert undisturbed.run(undisturbed.fault_injector()) == 0, undisturbed.log
    moments = json.loads((undisturbed.folder / "moments").read_text())["moments"]["output"]

    # A process is killed after a share of all moments, so that all together end before the last one.
    killed, kept = 0, 0
    while killed < kills:
        faults = trial.fault_injector("output", rng.randrange(3 * moments // (2 * kills)))
        faults.action = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        status = trial.run(faults)
        assert os.WIFSIGNALED(status), trial.log
        killed += 1
        before = kept
        kept = len(list(trial.output.glob("*.png")))
        assert kept >= before, "an image is gone"
    assert trial.run(trial.fault_injector()) == 0, trial.log

    # Every row is there, once, and as it was asked for.
    found = [read_sample(trial.output / f"{number:04d}.png") for number in range(count)]
    asked = [(each["prompt"], each["seed"], each["negative_prompt"]) for each in found]
    expected = [(row["prompt"], row["seed"], row.get("negative_prompt", "")) for row in rows]
    same = trial.files() == undisturbed.files()
    print(json.dumps({"killed": killed, "kept": kept, "images": len(found), "as asked": asked == expected, "same": same}))


if __name__ == "__main__":
    main()
