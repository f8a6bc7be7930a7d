"""`tenth train RECIPE` killed by SIGKILL at random moments and resumed: `killed_recipe.py RECIPE DIR KILLS SEED`.

Half of the kills come while a checkpoint is being written, if one begins before the run ends. The last run ends by itself.
Prints what happened as one line of JSON; `weights` is the sha256 of DIR/final, to compare with that of KILLS = 0.
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMAND = "import sys; from tenth.cli.main import main; sys.exit(main())"


def newest_checkpoint(directory: Path) -> str:
    """The newest checkpoint's name, "" where there is none."""
    return max((path.name for path in directory.glob("step-*")), default="")


def unfinished(directory: Path) -> set[str]:
    """Checkpoints that are being written, or were when their writer was killed."""
    return {path.name for path in directory.glob(".step-*.part")}


def main() -> None:
    recipe, directory = sys.argv[1], Path(sys.argv[2])
    kills, rng = int(sys.argv[3]), random.Random(int(sys.argv[4]))
    killed, killed_while_saving, steps = 0, 0, []
    with Path(f"{directory}.log").open("w") as log:

        def start() -> subprocess.Popen[bytes]:
            more = ["--resume"] if (directory / "recipe.toml").is_file() else []
            command = [sys.executable, "-c", COMMAND, "train", recipe, "-o", str(directory), *more]
            return subprocess.Popen(command, stdout=log, stderr=log)

        while killed < kills:
            left = unfinished(directory)
            process = start()
            moment = time.monotonic() + rng.uniform(3.0, 12.0)  # some seconds go into starting
            inside = rng.random() < 0.5
            while process.poll() is None and (inside or time.monotonic() < moment):
                if inside and time.monotonic() > moment and unfinished(directory) - left:
                    break
                time.sleep(0.0005)
            caught = bool(unfinished(directory) - left)
            process.send_signal(signal.SIGKILL)
            if process.wait() != -signal.SIGKILL:
                break  # it ended before it could be killed
            killed, killed_while_saving = killed + 1, killed_while_saving + caught
            steps.append(newest_checkpoint(directory))
        ended = start().wait()
    digest = hashlib.sha256()
    for path in sorted((directory / "final").glob("*.safetensors")):
        digest.update(path.read_bytes())
    print(
        json.dumps(
            {
                "killed": killed,
                "saving": killed_while_saving,
                "resumed_at": steps,
                "ended": ended,
                "weights": digest.hexdigest(),
            }
        )
    )


if __name__ == "__main__":
    main()
