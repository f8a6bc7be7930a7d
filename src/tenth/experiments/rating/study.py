"""A rating of two folders of images: what is asked, the rater's pairs, and the choices so far."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, printable_name, reason, sha256_of
from tenth.core.wording import printable
from tenth.experiments.output_folders import ensure_writable_experiment, ensure_writable_path
from tenth.experiments.rating.choices import Choice, ChoiceFile
from tenth.experiments.rating.pairs import ImagePair, ShownPair, choose_pairs, list_pairs, rater_order

QUESTIONS = {
    "identity": "Which image is more like the person?",
    "prompt": "Which image fits the text better?",
    "quality": "Which image is the better picture, whoever it shows?",
}
MAX_RATER_CHARS = 60
DEFAULT_PAIRS = 200  # some twenty minutes of a person's time


@dataclass(frozen=True)
class StudyOptions:
    """What is asked of raters, and of what.

    tasks: the folder of `tenth benchmark export`. references: of its tasks those of so many, None for the most. question: of
    QUESTIONS. pairs: how many are shown to each rater. seed: of which pairs, their order and sides. rater: a name, where there
    are several. photos: real ones beside the pairs, where the tasks have them and identity is asked for.
    """

    tasks: Path | None = None
    references: int | None = None
    question: str = "identity"
    pairs: int = DEFAULT_PAIRS
    seed: int = 0
    rater: str = ""
    photos: bool = True


@dataclass(frozen=True)
class Study:
    """What one rater sees, and the choices of all raters. systems: the names of both; notes: what to know before it begins."""

    folder: Path
    systems: tuple[str, str]
    options: StudyOptions
    order: Sequence[ShownPair]
    choices: ChoiceFile
    notes: tuple[str, ...] = ()

    @property
    def next_index(self) -> int:
        """The first pair without a choice of this rater; the number of pairs if there is none."""
        return next((index for index in range(len(self.order)) if self.choice(index) is None), len(self.order))

    @property
    def num_chosen(self) -> int:
        return sum(self.choice(index) is not None for index in range(len(self.order)))

    def choice(self, index: int) -> str | None:
        """What this rater chose of a pair, one of CHOICES, or None."""
        found = self.choices.of(self.options.rater, self.order[index].pair.task)
        return found.choice if found else None

    def choose(self, index: int, choice: str) -> None:
        """Write a choice to the disk. Raises DataError if that fails."""
        shown = self.order[index]
        left, right = self.systems[shown.left], self.systems[shown.right]
        self.choices.add(Choice(self.options.rater, shown.pair.task, shown.pair.person, left, right, choice))


def open_study(folders: tuple[Path, Path], output: Path, options: StudyOptions) -> Study:
    """A new study, or the one of these images and options in `output`, which goes on.

    Raises DataError if the images are missing or cannot be asked for, CheckpointError if `output` holds anything else.
    """
    if len(options.rater) > MAX_RATER_CHARS or not options.rater.isprintable():
        found = f"a rater's name of {len(options.rater):,} characters, or with some that cannot be printed"
        raise DataError(found, f"at most {MAX_RATER_CHARS} that can be printed are needed", "Choose a shorter --rater")
    if folders[0].absolute() == folders[1].absolute():
        raise DataError(f"{folders[0]} twice", "the images of two systems are needed", "Give another folder")
    ensure_writable_path(output)
    pairs, notes = list_pairs(folders, options.tasks, options.references)
    chosen = choose_pairs(pairs, options.pairs, options.seed)
    if options.question == "prompt" and not all(pair.prompt for pair in chosen):
        raise DataError(
            "images without their prompts", "prompts are needed to ask for them", "Give --tasks, or ask for another"
        )
    if options.question != "identity" or not options.photos:
        chosen = [replace(pair, photos=()) for pair in chosen]

    # The same for every rater: whatever is another makes another study.
    first, second = (printable_name(folder) for folder in folders)
    systems = (first, second) if first != second else (printable(str(folders[0])), printable(str(folders[1])))
    if systems[0] == systems[1]:
        raise DataError(f"two folders called {systems[0]}", "names that can be told apart are needed", "Rename one")
    settings = {
        "systems": list(systems),
        "question": options.question,
        "pairs": options.pairs,
        "seed": options.seed,
        "photos": options.photos,
        "images": _digest(chosen),
    }
    ensure_writable_experiment(output, settings, "evaluation by raters")
    order = rater_order(chosen, options.seed, options.rater)
    return Study(output, systems, options, order, ChoiceFile(output, systems), tuple(notes))


def _digest(pairs: Sequence[ImagePair]) -> str:
    """16 hexadecimal digits of which tasks and images are shown: an image that has changed is another one."""
    digest = hashlib.sha256()
    for pair in pairs:
        try:
            digest.update("\0".join([pair.task, *map(sha256_of, pair.images)]).encode("utf-8", "surrogateescape"))
        except (OSError, UnreadableError) as problem:
            found = f"an image of task {pair.task} {reason(problem)}"
            raise DataError(found, "an image that can be read is needed", "Look after it") from problem
    return digest.hexdigest()[:16]
