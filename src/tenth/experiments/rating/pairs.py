"""Two systems' images of the same tasks, in pairs: which are shown, in which order, and on which side each image is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, parse_json, read_lines, reason, without_system_files
from tenth.core.wording import pluralize, printable, shorten
from tenth.evaluation.image_set import list_images

# Of `tenth benchmark export`.
TASKS_FILE = "tasks.jsonl"
TASK_KEYS = {"image": str, "person": str, "prompt": str, "num_references": int}
HELD_OUT = "private/held-out"  # a person's photos that no system was given
MAX_PHOTOS = 9  # of the person, shown above a pair


@dataclass(frozen=True)
class ImagePair:
    """Both systems' images of one task. photos: real ones of the person, the same for all of a person's pairs."""

    task: str
    person: str
    images: tuple[Path, Path]
    prompt: str = ""
    photos: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ShownPair:
    """A pair as a rater sees it. left, right: the index of the system whose image is there."""

    pair: ImagePair
    left: int

    @property
    def right(self) -> int:
        return 1 - self.left


def list_pairs(
    folders: tuple[Path, Path], tasks: Path | None = None, num_references: int | None = None
) -> tuple[list[ImagePair], list[str]]:
    """The pairs of two folders, and what to know about images that have no partner.

    tasks: the folder of `tenth benchmark export`: a pair for each task of so many references, by default the most. Without it
    images of the same name are a pair, in folders that hold a folder for each person, or images of one.
    Raises DataError if there is no pair, or no tasks in `tasks`.
    """
    pairs = _same_names(folders) if tasks is None else _of_tasks(folders, tasks, num_references)
    there = [tuple(image.is_file() for image in pair.images) for pair in pairs]
    kept = [pair for pair, found in zip(pairs, there, strict=True) if all(found)]
    if not kept:
        action = "Check the paths" if tasks is None else "Check the paths, and --tasks"
        raise DataError(f"{folders[0]} and {folders[1]} have no image in common", "two images of a task are needed", action)
    notes = []
    for folder, missing in zip(folders, (sum(not found[side] for found in there) for side in (0, 1)), strict=True):
        if missing:
            notes.append(f"{folder} has no image for {missing:,} of {len(pairs):,} tasks: they are not shown")
    return kept, notes


def choose_pairs(pairs: Sequence[ImagePair], count: int, seed: int) -> list[ImagePair]:
    """At most `count` of the pairs, as many of each person as can be: one of each, then a second of each, and so on."""
    rng, by_person = Random(f"pairs {seed}"), dict[str, list[ImagePair]]()
    for pair in sorted(pairs, key=lambda pair: pair.task):
        by_person.setdefault(pair.person, []).append(pair)
    for own in by_person.values():
        rng.shuffle(own)
    chosen: list[ImagePair] = []
    for row in zip_longest(*by_person.values()):
        there = [pair for pair in row if pair is not None]
        rng.shuffle(there)
        chosen += there
    return chosen[:count]


def rater_order(pairs: Sequence[ImagePair], seed: int, rater: str) -> list[ShownPair]:
    """The pairs in a rater's order; each system is on the left in half of them. The same seed and rater give the same."""
    rng = Random(f"order {seed} {rater}")
    order = list(pairs)
    rng.shuffle(order)
    sides = [index % 2 for index in range(len(order))]
    rng.shuffle(sides)
    return [ShownPair(pair, left) for pair, left in zip(order, sides, strict=True)]


def _of_tasks(folders: tuple[Path, Path], tasks: Path, num_references: int | None) -> list[ImagePair]:
    """The pairs of tasks, whether their images are there or not. photos: held-out ones, which no system was given."""
    rows = _read_tasks(tasks / TASKS_FILE)
    counts = sorted({row["num_references"] for row in rows})
    count = num_references or counts[-1]
    if count not in counts:
        found = f"{tasks} has no tasks of {pluralize(count, 'reference')}"
        raise DataError(found, f"one of {', '.join(map(str, counts))} is needed", "Correct --references")

    kept = [row for row in rows if row["num_references"] == count]
    folders_of = {person: tasks / HELD_OUT / person for person in {row["person"] for row in kept}}
    photos = {person: without_system_files(folder, folder.glob("*.png"))[:MAX_PHOTOS] for person, folder in folders_of.items()}
    return [
        ImagePair(
            row["image"],
            row["person"],
            (folders[0] / row["image"], folders[1] / row["image"]),
            row["prompt"],
            tuple(photos[row["person"]]),
        )
        for row in kept
    ]


def _read_tasks(path: Path) -> list[dict[str, Any]]:
    """The lines of tasks.jsonl, as far as a rater needs them. benchmark/tasks.py reads all, and loads the models' libraries."""
    rows = []
    try:
        for number, line in enumerate(read_lines(path), 1):
            row = parse_json(line)
            if not isinstance(row, dict) or any(type(row.get(key)) is not kind for key, kind in TASK_KEYS.items()):
                raise UnreadableError(f"holds no task in line {number}")
            for name in (row["image"], row["person"]):
                if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
                    raise UnreadableError(f"names {shorten(repr(name))} in line {number}, which is outside of its folder")
            rows.append(row)
        if not rows:
            raise UnreadableError("is empty")
    except (OSError, UnreadableError) as problem:
        needed = "the tasks of `tenth benchmark export` are needed"
        raise DataError(f"{path} {reason(problem)}", needed, "Check --tasks, or export them again") from problem
    return rows


def _same_names(folders: tuple[Path, Path]) -> list[ImagePair]:
    """Images with the same person and name, apart from the ending; a task's name is both."""
    found: list[dict[tuple[str, str], Path]] = []
    for folder in folders:
        images, named = list_images(folder, min_images=1), dict[tuple[str, str], Path]()
        for person, path in zip(images.people, images.paths, strict=True):
            if (other := named.setdefault((printable(person), printable(path.stem)), path)) != path:
                raise DataError(f"{other} and {path}", "one image of a name is needed: names make the pairs", "Move one away")
        found.append(named)
    first, second = found
    missing = Path()  # a folder, and so no image
    return [
        ImagePair("/".join(filter(None, name)), name[0], (first.get(name, missing), second.get(name, missing)))
        for name in sorted({*first, *second})
    ]
