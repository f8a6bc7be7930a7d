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
from tenth.core.run_record import PROGRESS_FILE
from toy_commands import FaultInjector, Trial, command, prepare, run_forked

MAY_GROW = {"costs.jsonl"}  # a batch that was drawn twice cost twice


class KillTest:
    """A command, the bytes of a run that nothing disturbed, and what came of those that something did."""

    def __init__(self, name: str, work: Path, rng: random.Random) -> None:
        self.name, self.work, self.rng = name, work, rng
        self.counts_by_outcome = dict.fromkeys(("killed", "failed", "survived", "at once", "runs", "lost"), 0)
        self.trials = 0
        undisturbed = self.trial()
        assert undisturbed.run(undisturbed.fault_injector()) == 0, undisturbed.log
        said = json.loads((undisturbed.folder / "moments").read_text())
        self.counts: dict[str, int] = said["moments"]
        self.expected = undisturbed.files()
        assert self.expected, "nothing was written"
        for breach in said["breaches"]:
            self.report_loss(undisturbed, breach)

    def trial(self) -> Trial:
        folder = self.work / f"{self.name}-{self.trials}"
        self.trials += 1
        folder.mkdir()
        return Trial(self.name, self.work, folder)

    def kills(self, count: int) -> None:
        """Killed at so many moments, one to three times in a folder, half of them while it writes there."""
        while self.counts_by_outcome["killed"] < count:
            trial = self.trial()
            for _ in range(min(self.rng.randint(1, 3), count - self.counts_by_outcome["killed"])):
                kind = self.rng.choice(("output", "all"))
                moments = trial.fault_injector(kind, self.rng.randrange(self.counts[kind]))
                moments.action = lambda _: os.kill(os.getpid(), signal.SIGKILL)
                status = self.run(trial, moments)
                if not os.WIFSIGNALED(status):
                    break  # it went on where it was, and was done before that moment
                self.counts_by_outcome["killed"] += 1
            self.check_resumes(trial)

    def faults(self, count: int) -> None:
        """At so many moments at which it writes, also into the store, the disk is full or broken."""
        write_indices = list(range(self.counts["writing"]))
        for index in sorted(self.rng.sample(write_indices, min(count, len(write_indices)))):
            trial, code = self.trial(), self.rng.choice((errno.ENOSPC, errno.EIO))

            def fails(path: str, code: int = code) -> None:
                raise OSError(code, os.strerror(code), path)

            moments = trial.fault_injector("writing", index)
            moments.action = fails
            status = self.run(trial, moments)
            self.counts_by_outcome["failed"] += 1
            complaints = [line for line in trial.log.splitlines() if line.startswith("tenth: ")]
            named = len(complaints) == 1 and str(trial.output) in complaints[0] and os.strerror(code) in complaints[0]
            # What goes wrong while something is tidied up may go unsaid: then all is as it should be.
            if status == 0 or (os.waitstatus_to_exitcode(status) == 1 and named):
                self.counts_by_outcome["survived"] += 1
            else:
                self.report_loss(trial, f"status {status} at {index}, {os.strerror(code)}: {trial.log[-2000:]}")
            self.check_resumes(trial)

    def run_concurrently(self) -> None:
        """While one writes, another of other settings wants the same place: one of them is refused, and nothing is replaced."""
        trial = self.trial()
        moments = trial.fault_injector("output", self.rng.randrange(self.counts["output"]))
        other = trial.folder / "other"

        def comes(path: str) -> None:
            given = command(self.name, self.work, trial.output, other=True)
            status = run_forked(lambda: main(given), trial.folder / "other said")
            other.write_text(str(os.waitstatus_to_exitcode(status)))

        moments.action = comes
        codes = [os.waitstatus_to_exitcode(trial.run(moments)), int(other.read_text())]
        self.counts_by_outcome["at once"] += 1
        if sorted(codes) != [0, 1]:
            self.report_loss(trial, f"at once: {codes}, {trial.log} {(trial.folder / 'other said').read_text()}")
        elif codes[0] == 0:
            self.compare(trial)
        elif self.name != "identity" or self.expected.keys() != trial.files().keys() or self.expected == trial.files():
            self.report_loss(trial, "who was first is not who has it")  # only an identity is written in one moment, the last

    def run(self, trial: Trial, moments: FaultInjector | None = None) -> int:
        """Once more, and see that nothing that was there was replaced, lost or is not what it should be."""
        before = trial.written_once()
        status = trial.run(moments)
        self.counts_by_outcome["runs"] += 1
        after = trial.written_once()
        before = {
            name: state for name, state in before.items() if name in after or "/candidates/" not in name
        }  # which go at the end
        if not before.items() <= after.items():
            self.report_loss(trial, f"replaced or lost: {sorted(name for name in before if before[name] != after.get(name))}")
        for name, content in trial.files().items():
            if Path(name).name not in {*MAY_GROW, PROGRESS_FILE, "validation.jsonl"} and content != self.expected.get(
                name, content
            ):
                self.report_loss(trial, f"{name} is another one")
        return status

    def check_resumes(self, trial: Trial) -> None:
        status = self.run(trial)
        if status != 0:
            self.report_loss(trial, f"did not go on: {trial.log[-2000:]}")
        self.compare(trial)
        shutil.rmtree(trial.folder)

    def compare(self, trial: Trial) -> None:
        files = trial.files()
        for name in sorted({*files, *self.expected}):
            content, expected = files.get(name), self.expected.get(name)
            if Path(name).name in MAY_GROW and content is not None and expected is not None:
                content, expected = (b"\n".join(sorted({*text.splitlines()})) for text in (content, expected))
            if content != expected:
                self.report_loss(trial, f"{name} differs in the end")
        if left := list(trial.output.rglob("*.part")):
            self.report_loss(trial, f"left behind: {left}")

    def report_loss(self, trial: Trial, what: str) -> None:
        self.counts_by_outcome["lost"] += 1
        print(f"{self.name} {trial.folder.name}: {what}", file=sys.stderr)


def run_all(work: Path, kills: int, faults: int, seed: int, names: list[str]) -> Iterator[dict[str, Any]]:
    work.mkdir(parents=True)
    os.environ["TENTH_CACHE_DIR"] = str(work / "store")
    os.environ["TENTH_DATA_DIR"] = str(work / "data")

    torch.set_num_threads(1)  # no other thread may be there when a process is forked
    prepare(work)
    for name in names:
        abuse = KillTest(name, work, random.Random(f"{seed} {name}"))
        abuse.kills(kills)
        abuse.faults(faults)
        abuse.run_concurrently()
        yield {"command": name, "moments": abuse.counts["all"], "writing": abuse.counts["writing"], **abuse.counts_by_outcome}


if __name__ == "__main__":
    given = sys.argv[5:] or ["generate", "candidates", "grid", "identity", "experiment", "demo", "train"]
    lost = 0
    for found in run_all(Path(sys.argv[1]).resolve(), *map(int, sys.argv[2:5]), given):
        print(json.dumps(found), flush=True)
        lost += found["lost"]
    sys.exit(bool(lost))
