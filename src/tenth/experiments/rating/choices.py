"""What raters chose: a line of JSON for each choice, on the disk before the next pair is shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tenth.core.errors import CheckpointError
from tenth.core.files.reading import UnreadableError, parse_json, read_lines, reason
from tenth.core.files.writing import write_text

CHOICES_FILE = "choices.jsonl"
LEFT, RIGHT, TIE, SKIP = CHOICES = ("left", "right", "tie", "skip")


@dataclass(frozen=True)
class Choice:
    """A rater's choice of a task. left, right: the system whose image was there; choice: one of CHOICES."""

    rater: str
    task: str
    person: str
    left: str
    right: str
    choice: str

    def score(self, system: str) -> float | None:
        """1 if this system was chosen, 0 if the other, 0.5 for a tie; None if the pair was skipped."""
        if self.choice == SKIP:
            return None
        if self.choice == TIE:
            return 0.5
        return float((self.left if self.choice == LEFT else self.right) == system)


class ChoiceFile:
    """The choices of a folder. The last one of a rater and task counts. Several threads may add."""

    def __init__(self, folder: Path, systems: Sequence[str]) -> None:
        """Raises CheckpointError if the file is damaged, or holds choices between other systems."""
        self.path, self._systems = folder / CHOICES_FILE, tuple(systems)
        self._lock = threading.Lock()
        self.read()

    def read(self) -> None:
        """Read the file anew, once nobody else can write it. Raises CheckpointError as the class does."""
        with self._lock:
            self._choices = {(choice.rater, choice.task): choice for choice in _read(self.path, self._systems)}

    def add(self, choice: Choice) -> None:
        """Write a choice to the disk; an earlier one of the same rater and task is replaced. Raises DataError."""
        with self._lock:
            choices = self._choices | {(choice.rater, choice.task): choice}
            write_text(self.path, "".join(f"{json.dumps(asdict(each))}\n" for each in choices.values()))
            self._choices = choices

    def of(self, rater: str, task: str) -> Choice | None:
        """The choice of a rater, if there is one."""
        return self._choices.get((rater, task))

    def all(self) -> list[Choice]:
        """All choices, in the order in which they were first made."""
        return list(self._choices.values())


def _read(path: Path, systems: Sequence[str]) -> list[Choice]:
    choices = []
    try:
        for number, line in enumerate(read_lines(path), 1):
            try:
                row = parse_json(line)
            except UnreadableError as problem:
                raise UnreadableError(f"{problem} in line {number}") from problem
            names = Choice.__dataclass_fields__
            if not isinstance(row, dict) or set(row) != set(names) or not all(type(row[name]) is str for name in names):
                raise UnreadableError(f"holds no choice in line {number}")
            choice = Choice(**row)
            if choice.choice not in CHOICES or {choice.left, choice.right} != set(systems):
                raise UnreadableError(f"holds a choice of something else in line {number}")
            choices.append(choice)
    except FileNotFoundError:
        return []
    except (OSError, UnreadableError) as problem:
        needed = f"choices between {' and '.join(systems)} are needed"
        raise CheckpointError(f"{path} {reason(problem)}", needed, "Mend the line, or choose another -o") from problem
    return choices
