"""A folder that a system filled: the image of every task is there, whole, of one size, and nothing else is."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath

from PIL import Image

from tenth.core.console import track
from tenth.core.errors import DataError
from tenth.core.files.decoder_errors import DECODER_ERRORS
from tenth.core.files.png_metadata import MAX_PNG_BYTES
from tenth.core.files.reading import UnreadableError, is_system_file, read_bytes, reason
from tenth.core.wording import pluralize, printable, shorten
from tenth.experiments.benchmark.tasks import TASKS_FILE, Benchmark, Task

MIN_SIDE, MAX_SIDE = 112, 4096  # pixels: what a recognizer reads of a face, and what can be opened in memory
MODES = ("RGB", "RGBA", "L", "LA", "P")  # Pillow's names of what has 8 bits a channel: colour or grey, with alpha or without
DEPTH_OFFSET = 24  # in a PNG, of its bits a channel: Pillow opens colour of 16 bits as of 8
NAMED = 10  # images of each kind that an error names
NEEDED = f"one whole PNG at the `image` of each line of {TASKS_FILE} is needed, all of one size, and nothing else"


@dataclass(frozen=True)
class Submission:
    """The images of whole people. people: with all their images, in the benchmark's order. size: width and height, pixels.

    digest: sha256 over all images. notes: what to know.
    """

    directory: Path
    tasks: tuple[Task, ...]
    people: tuple[str, ...]
    size: tuple[int, int]
    digest: str
    notes: tuple[str, ...] = ()

    def path(self, task: Task) -> Path:
        """The image of a task."""
        return self.directory / task.image


@dataclass
class _OpenedImages:
    """What was found at the tasks' paths: sizes by image, and what is wrong with the others."""

    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    digest: str = ""


def read_submission(folder: Path, benchmark: Benchmark, *, partial: bool = False) -> Submission:
    """A system's images, each opened once. partial: people of whom an image is missing are left out.

    Raises DataError, which names the first of each kind, for images that are missing, extra, broken or of another size than
    the others; if too few people are whole; if there is no such folder.
    """
    files, links = _files(folder)
    missing = [task.image for task in benchmark.tasks if task.image not in files]
    extra = sorted(files.difference(task.image for task in benchmark.tasks))
    opened = _open_images(folder, [task.image for task in benchmark.tasks if task.image in files])
    size, odd_sizes = _common_size(opened.sizes)

    # All that is wrong, at once.
    renamed = _meant(extra, missing)
    problems = [
        _named("missing", [] if partial else missing),
        _named("extra", [f"{name} (is {renamed[name]} meant?)" if name in renamed else name for name in extra]),
        _named("links to folders, which are not followed", links),
        _named("broken", [f"{name} {problem}" for name, problem in opened.broken.items()]),
        _named(f"not {size[0]} x {size[1]} as the others", [f"{name} ({w} x {h})" for name, (w, h) in odd_sizes.items()]),
    ]
    if any(problems):
        also = " or add --partial to score whole people alone" if missing and not partial and not any(problems[1:]) else ""
        raise DataError(f"{folder}: {'; '.join(filter(None, problems))}", NEEDED, f"Mend these{also}")

    # Whole people.
    absent = set(missing)
    incomplete = {task.person for task in benchmark.tasks if task.image in absent}
    people = tuple(person_id for person_id in benchmark.people if person_id not in incomplete)
    if len(people) < 2:
        found = f"{folder} has all images of {pluralize(len(people), 'person')}"
        raise DataError(found, "whole people are scored, and two are needed", f"Make the other images of {TASKS_FILE}")
    notes = []
    if incomplete:
        notes = [f"partial: {len(people)} of {pluralize(len(benchmark.people), 'person')}"]
    tasks = tuple(task for task in benchmark.tasks if task.person not in incomplete)
    return Submission(folder, tasks, people, size, opened.digest, tuple(notes))


def _files(folder: Path) -> tuple[set[str], list[str]]:
    """All files below a folder, without what systems put there; and links to folders, which are not followed."""

    def refuse(problem: OSError) -> None:
        found = "is a file" if isinstance(problem, NotADirectoryError) else reason(problem)
        raise DataError(f"{problem.filename} {found}", "a folder of images is needed", "Check the path") from problem

    files, links = set[str](), list[str]()
    for directory, folders, names in os.walk(folder, onerror=refuse):
        at = Path(directory).relative_to(folder)
        files |= {(at / name).as_posix() for name in names if not is_system_file(at / name)}
        links += [(at / name).as_posix() for name in folders if (Path(directory) / name).is_symlink()]
    return files, sorted(links)


def _open_images(folder: Path, images: Sequence[str]) -> _OpenedImages:
    """Decode every image, since what cannot be scored should be known before hours of scoring."""
    opened, digest = _OpenedImages(), hashlib.sha256()
    for name in track(images, "images", "image"):
        try:
            content = read_bytes(folder / name, MAX_PNG_BYTES)
            opened.sizes[name] = _size_of(content)
        except (OSError, UnreadableError) as problem:
            opened.broken[name] = reason(problem)
        else:
            digest.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    opened.digest = digest.hexdigest()
    return opened


def _size_of(content: bytes) -> tuple[int, int]:
    """Width and height of a PNG. Raises UnreadableError if it is none, not whole, or of a size or depth that is not scored."""
    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            if not MIN_SIDE <= min(image.size) <= max(image.size) <= MAX_SIDE:
                raise UnreadableError(f"has {image.width} x {image.height} pixels; a side has {MIN_SIDE} to {MAX_SIDE}")
            if image.mode not in MODES or content[DEPTH_OFFSET] > 8:
                found = f"{image.mode}, {content[DEPTH_OFFSET]} bits a channel"
                raise UnreadableError(f"has pixels of the kind {found}; at most 8 bits are scored")
            image.load()
            return image.size
    except UnreadableError:
        raise
    except DECODER_ERRORS as problem:
        raise UnreadableError("is no whole PNG") from problem


def _common_size(sizes: Mapping[str, tuple[int, int]]) -> tuple[tuple[int, int], dict[str, tuple[int, int]]]:
    """The size that most images have, and those of another."""
    size = max(Counter(sizes.values()).items(), key=lambda item: (item[1], item[0]), default=((0, 0), 0))[0]
    return size, {name: each for name, each in sizes.items() if each != size}


def _meant(extra: Iterable[str], missing: Iterable[str]) -> dict[str, str]:
    """Which missing image an extra file is by another name: other letters, zeros, ending or separators."""
    by_key = {_key(name): name for name in missing}
    return {name: by_key[_key(name)] for name in extra if _key(name) in by_key}


def _key(name: str) -> tuple[str, ...]:
    parts = re.split(r"[^a-z0-9]+", str(PurePosixPath(name.lower()).with_suffix("")))
    return tuple(part.lstrip("0") or "0" if part.isdigit() else part for part in parts)


def _named(kind: str, names: Sequence[str]) -> str:
    """'12 missing: the first ten and 2 more', '' for none."""
    if not names:
        return ""
    shown = ", ".join(shorten(printable(name)) for name in names[:NAMED])
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{len(names):,} {kind}: {shown}{more}"
