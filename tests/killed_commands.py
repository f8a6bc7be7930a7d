"""Commands that are killed or whose disk fails, and run again: `killed_commands.py DIR KILLS FAULTS SEED [COMMAND ...]`.

Every process is forked after the imports and runs one command on a toy model, which is loaded. What happens in it is
announced by the interpreter itself: each file that is opened, named or removed and each flush is a moment. At one that is drawn
by chance the process kills itself, or the disk is full or broken. Then the same command runs again, until it ends. Clocks stand
still, so that all bytes can be compared with those of a run that nothing disturbed. Prints a line of JSON for each command.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tenth.cli.main import main
from tenth.experiments.output_folders import BEGUN
from toy_commands import Moments, Trial, command, forked, prepare

MAY_GROW = {"costs.jsonl"}  # a batch that was drawn twice cost twice


class Abuse:
    """A command, the bytes of a run that nothing disturbed, and what came of those that something did."""

    def __init__(self, name: str, work: Path, chance: random.Random) -> None:
        self.name, self.work, self.chance = name, work, chance
        self.found = dict.fromkeys(("killed", "failed", "survived", "at once", "runs", "lost"), 0)
        self.trials = 0
        undisturbed = self.trial()
        assert undisturbed.run(undisturbed.moments()) == 0, undisturbed.said
        said = json.loads((undisturbed.folder / "moments").read_text())
        self.counts: dict[str, int] = said["moments"]
        self.wanted = undisturbed.files()
        assert self.wanted, "nothing was written"
        for breach in said["breaches"]:
            self.lose(undisturbed, breach)

    def trial(self) -> Trial:
        folder = self.work / f"{self.name}-{self.trials}"
        self.trials += 1
        folder.mkdir()
        return Trial(self.name, self.work, folder)

    def kills(self, count: int) -> None:
        """Killed at so many moments, one to three times in a folder, half of them while it writes there."""
        while self.found["killed"] < count:
            trial = self.trial()
            for _ in range(min(self.chance.randint(1, 3), count - self.found["killed"])):
                kind = self.chance.choice(("output", "all"))
                moments = trial.moments(kind, self.chance.randrange(self.counts[kind]))
                moments.happens = lambda _: os.kill(os.getpid(), signal.SIGKILL)
                status = self.run(trial, moments)
                if not os.WIFSIGNALED(status):
                    break  # it went on where it was, and was done before that moment
                self.found["killed"] += 1
            self.goes_on(trial)

    def faults(self, count: int) -> None:
        """At so many moments at which it writes, also into the store, the disk is full or broken."""
        every = list(range(self.counts["writing"]))
        for place in sorted(self.chance.sample(every, min(count, len(every)))):
            trial, code = self.trial(), self.chance.choice((errno.ENOSPC, errno.EIO))

            def fails(path: str, code: int = code) -> None:
                raise OSError(code, os.strerror(code), path)

            moments = trial.moments("writing", place)
            moments.happens = fails
            status = self.run(trial, moments)
            self.found["failed"] += 1
            complaints = [line for line in trial.said.splitlines() if line.startswith("tenth: ")]
            named = len(complaints) == 1 and str(trial.output) in complaints[0] and os.strerror(code) in complaints[0]
            # What goes wrong while something is tidied up may go unsaid: then all is as it should be.
            if status == 0 or (os.waitstatus_to_exitcode(status) == 1 and named):
                self.found["survived"] += 1
            else:
                self.lose(trial, f"status {status} at {place}, {os.strerror(code)}: {trial.said[-2000:]}")
            self.goes_on(trial)

    def at_once(self) -> None:
        """While one writes, another of other settings wants the same place: one of them is refused, and nothing is replaced."""
        trial = self.trial()
        moments = trial.moments("output", self.chance.randrange(self.counts["output"]))
        other = trial.folder / "other"

        def comes(path: str) -> None:
            given = command(self.name, self.work, trial.output, other=True)
            status = forked(lambda: main(given), trial.folder / "other said")
            other.write_text(str(os.waitstatus_to_exitcode(status)))

        moments.happens = comes
        codes = [os.waitstatus_to_exitcode(trial.run(moments)), int(other.read_text())]
        self.found["at once"] += 1
        if sorted(codes) != [0, 1]:
            self.lose(trial, f"at once: {codes}, {trial.said} {(trial.folder / 'other said').read_text()}")
        elif codes[0] == 0:
            self.compare(trial)
        elif self.name != "identity" or self.wanted.keys() != trial.files().keys() or self.wanted == trial.files():
            self.lose(trial, "who was first is not who has it")  # only an identity is written in one moment, the last

    def run(self, trial: Trial, moments: Moments | None = None) -> int:
        """Once more, and see that nothing that was there was replaced, lost or is not what it should be."""
        before = trial.written_once()
        status = trial.run(moments)
        self.found["runs"] += 1
        after = trial.written_once()
        if not before.items() <= after.items():
            self.lose(trial, f"replaced or lost: {sorted(name for name in before if before[name] != after.get(name))}")
        for name, content in trial.files().items():
            if Path(name).name not in {*MAY_GROW, BEGUN, "validation.jsonl"} and content != self.wanted.get(name, content):
                self.lose(trial, f"{name} is another one")
        return status

    def goes_on(self, trial: Trial) -> None:
        status = self.run(trial)
        if status != 0:
            self.lose(trial, f"did not go on: {trial.said[-2000:]}")
        self.compare(trial)
        shutil.rmtree(trial.folder)

    def compare(self, trial: Trial) -> None:
        files = trial.files()
        for name in sorted({*files, *self.wanted}):
            content, wanted = files.get(name), self.wanted.get(name)
            if Path(name).name in MAY_GROW and content is not None and wanted is not None:
                content, wanted = (b"\n".join(sorted({*text.splitlines()})) for text in (content, wanted))
            if content != wanted:
                self.lose(trial, f"{name} differs in the end")
        if left := list(trial.output.rglob("*.part")):
            self.lose(trial, f"left behind: {left}")

    def lose(self, trial: Trial, what: str) -> None:
        self.found["lost"] += 1
        print(f"{self.name} {trial.folder.name}: {what}", file=sys.stderr)


def abused(work: Path, kills: int, faults: int, seed: int, names: list[str]) -> Iterator[dict[str, Any]]:
    work.mkdir(parents=True)
    os.environ["TENTH_STORE"] = str(work / "store")

    torch.set_num_threads(1)  # no other thread may be there when a process is forked
    prepare(work)
    for name in names:
        abuse = Abuse(name, work, random.Random(f"{seed} {name}"))
        abuse.kills(kills)
        abuse.faults(faults)
        abuse.at_once()
        yield {"command": name, "moments": abuse.counts["all"], "writing": abuse.counts["writing"], **abuse.found}


if __name__ == "__main__":
    given = sys.argv[5:] or ["generate", "identity", "experiment", "demo", "train"]
    lost = 0
    for found in abused(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:5]), given):
        print(json.dumps(found), flush=True)
        lost += found["lost"]
    sys.exit(bool(lost))
