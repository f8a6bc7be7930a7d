"""`make abuse`: a longer attack than the tests', with other seeds. `python tests/abuse.py [SEED]` (default: the day).

Mutated files, photos, recipes, locks and answers of a hub, by the tests that mutate them, with more of each; bad commands, each
in a process of its own; commands that are killed or whose disk fails, run again. At the end it prints how many bad inputs were
tried and how many of them no clear error answered, how many faults were injected and survived, and what was lost. It exits
with 1 if anything failed or was lost. Some ten minutes on two cores.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote_to_bytes

from bad_materials import write_materials
from fresh import Done, Fresh, fresh_server
from tenth.models.pocket.paths import EXAMPLE_PHOTOS_DIR

TESTS = Path(__file__).resolve().parent
FUZZ = ("test_fuzz_files.py", "test_fuzz_hub.py", "data/test_photo_fuzz.py")
TIMES = 3  # as many mutations as the tests have
KILLS, FAULTS = 30, 10  # of each command
SECONDS = 20.0  # for a bad command
MAX_ERROR_LENGTH = 3_000  # characters of an error
LONG_COMMANDS = (["photos", "x" * 5_000], ["photos", "x/" * 2_000], ["generate", "me", "--prompt", "a" * 100_000, "-o", "new"])
NETWORK = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody answers there


@dataclass
class Outcome:
    """tried: bad inputs, failed: those that no clear error answered; injected: faults, survived: those that cost nothing."""

    tried: int = 0
    failed: list[str] = field(default_factory=list)
    injected: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.tried, self.failed = self.tried + other.tried, self.failed + other.failed
        self.injected, self.survived = self.injected + other.injected, self.survived + other.survived
        self.lost += other.lost

    @property
    def code(self) -> int:
        """0 if all is well."""
        return int(bool(self.failed or self.lost) or self.survived < self.injected or not self.tried)

    def __str__(self) -> str:
        details = [f"failed: {each}" for each in self.failed] + [f"lost: {each}" for each in self.lost]
        counts = (
            f"bad inputs tried {self.tried:,}, failed {len(self.failed):,}",
            f"faults injected {self.injected:,}, survived {self.survived:,}",
            f"lost {len(self.lost):,}",
        )
        return "\n".join([*details, *counts])


# Bad commands


def bad_commands(text: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """Environment and words of each line of bad_commands.txt."""
    for line in text.splitlines():
        words = [os.fsdecode(unquote_to_bytes(word)) for word in shlex.split(line, comments=True)]
        environment = {}
        while words and words[0].partition("=")[0].isupper() and "=" in words[0]:
            name, _, environment[name] = words.pop(0).partition("=")  # type: ignore[misc]
        if words:
            yield environment, words


def all_bad_commands() -> list[tuple[dict[str, str], list[str]]]:
    return [*bad_commands((TESTS / "bad_commands.txt").read_text(encoding="utf-8")), *(({}, words) for words in LONG_COMMANDS)]


def run_bad_commands(fresh: Fresh, work: Path, commands: Iterable[tuple[dict[str, str], list[str]]]) -> Outcome:
    """Each in a process of its own, in a folder of which nothing may change. work: an empty folder."""
    outcome, at = Outcome(), work / "at"
    at.mkdir()
    fresh = fresh.loaded.within(
        TENTH_CACHE_DIR=str(work / "store"),
        TENTH_MODELS=str(work / "models"),
        TENTH_PEOPLE_DIR=str(work / "people"),
        TENTH_DATA_DIR=str(work / "data"),
        **NETWORK,
    )
    made = fresh.command(["identity", str(EXAMPLE_PHOTOS_DIR), "-o", str(work / "made.safetensors")], work)
    assert made.code == 0, made.err
    write_materials(at, work / "made.safetensors")
    before = folder_digests(at)
    for more, words in commands:
        outcome.tried += 1
        command = shlex.join([*(f"{name}={value}" for name, value in more.items()), *words])[:300]
        if fault := find_fault(fresh, words, at, more):
            outcome.failed.append(f"{command}: {fault}")
        after = folder_digests(at)
        outcome.lost += [f"{command}: {path}" for path in before if before[path] != after.get(path)]
        if new := after.keys() - before.keys():
            outcome.failed.append(f"{command}: refused, and left {', '.join(sorted(new)[:3])}")
            for path in new:
                shutil.rmtree(at / path) if (at / path).is_dir() else (at / path).unlink(missing_ok=True)
    return outcome


def find_fault(fresh: Fresh, words: Sequence[str], at: Path, environment: Mapping[str, str]) -> str:
    """What is wrong with the answer to a bad command; "" if it is one clear error, soon."""
    start = time.monotonic()
    done = fresh.command(words, at, environment)
    seconds = time.monotonic() - start
    if seconds > SECONDS:
        return f"an answer after {seconds:.0f} s"
    return "" if is_clear(done) else f"exit code {done.code}: {done.err.strip()[-500:]}"


def is_clear(done: Done) -> bool:
    """One line on stderr; or a table of photos of which none is accepted."""
    lines = done.err.splitlines()
    if done.code == 2:
        return len(lines) == 1 and lines[0].startswith("tenth") and lines[0].endswith(" --help` says more.")
    if done.code != 1:
        return False
    if not lines:
        return done.out.splitlines()[-1:][0].startswith("0 of ") if done.out else False
    return len(lines) == 1 and lines[0].startswith("tenth: ") and len(lines[0]) < MAX_ERROR_LENGTH


def folder_digests(folder: Path) -> dict[str, str]:
    """What every path in a folder is: a digest of a file, where a link leads, or what else it is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        if path.is_symlink():
            description = f"link to {path.readlink()}"
        elif path.is_file() and state.st_blocks * 512 >= min(state.st_size, 1 << 20):
            description = sha256(path.read_bytes()).hexdigest()
        else:
            description = f"{state.st_mode} {state.st_size}"  # a folder, a pipe, or a file of holes
        found[str(path.relative_to(folder))] = description if not path.is_dir() else "folder"
    return found


# The tests that mutate, and commands that are killed


def run_mutation_tests(work: Path, seed: int) -> Outcome:
    """The tests that mutate, with another seed and more of each."""
    tally = work / "tally.jsonl"
    more = {"TENTH_FUZZ_SEED": str(seed), "TENTH_FUZZ_TIMES": str(TIMES), "TENTH_FUZZ_TALLY": str(tally), "HF_HUB_OFFLINE": "1"}
    files = [str(TESTS / name) for name in FUZZ]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", *files], env={**os.environ, **more}, check=False)
    rows = [json.loads(line) for line in tally.read_text(encoding="utf-8").splitlines()] if tally.exists() else []
    outcome = Outcome(sum(row["tried"] for row in rows), [f"{row['name']}, {each}" for row in rows for each in row["failed"]])
    if done.returncode and not outcome.failed:
        outcome.failed.append(f"pytest ended with {done.returncode}; what it said stands above")
    return outcome


def start_kill_tests(work: Path, seed: int) -> subprocess.Popen[str]:
    """Commands that are killed or whose disk fails, beside what else is done."""
    command = [sys.executable, str(TESTS / "killed_commands.py"), str(work), str(KILLS), str(FAULTS), str(seed)]
    paths = os.pathsep.join(str(folder) for folder in (TESTS.parent / "src", TESTS))
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths})


def collect_kill_tests(process: subprocess.Popen[str]) -> Outcome:
    """What came of them."""
    output, _ = process.communicate()
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    injected, survived = (
        sum(row["killed"] + row["failed"] for row in rows),
        sum(row["killed"] + row["survived"] for row in rows),
    )
    lost = [f"{row['lost']} times by `{row['command']}`; what it was stands above" for row in rows if row["lost"]]
    if process.returncode and not lost:
        lost.append(f"killed_commands.py ended with {process.returncode}")
    return Outcome(injected=injected, survived=survived, lost=lost)


def main() -> int:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else int(time.time()) // 86_400
    outcome, start = Outcome(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tenth-abuse-") as folder:
        work = Path(folder)
        print(f"seed {seed}, in {work}", file=sys.stderr)
        for name in ("commands", "said"):
            (work / name).mkdir()
        with start_kill_tests(work / "killed", seed) as killing, fresh_server() as address:
            outcome.add(run_mutation_tests(work, seed))
            outcome.add(run_bad_commands(Fresh(address, work / "said"), work / "commands", all_bad_commands()))
            outcome.add(collect_kill_tests(killing))
    print(f"after {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(outcome)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
