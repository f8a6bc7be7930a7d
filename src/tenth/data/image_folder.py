"""Write people.jsonl from a folder of photos per person, to train and evaluate on your own people.

People are as many as the disk holds: workers read the folders and open the photos, what they find goes into a journal, and rows
are written from it in order. Only while copies are looked for there is something in memory of each photo, about 200 bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from tqdm import tqdm

from tenth.core.errors import DataError
from tenth.core.files.claims import exclusive_folder, list_entries
from tenth.core.files.reading import is_system_file, reason
from tenth.core.wording import abbreviate, pluralize
from tenth.core.workers.tasks import run_tasks
from tenth.data.captions.sidecar_files import caption_error, repeat_captions
from tenth.data.intake.journal import JOURNAL_FILE, JournalPhoto, PhotoJournal
from tenth.data.intake.notes import Notes
from tenth.data.intake.person_folders import RefusedPhoto, make_folder_reader, make_photo_opener
from tenth.data.manifest import (
    MANIFEST_FILE,
    REPORT_FILE,
    DroppedPhoto,
    ManifestEntry,
    ManifestSummary,
    ManifestWriter,
    remove_temporary_manifest,
    writing_manifest,
)
from tenth.data.near_duplicates import Indices, find_originals
from tenth.data.photo_sources import natural_sort_key
from tenth.data.splits import fold_of, split_by_name

Run = Callable[..., Any]  # `run_tasks` with its workers: an iterator of outcomes that can be closed

FOLDERS_PER_TASK, PHOTOS_PER_TASK = 32, 16  # what a worker gets at a time, and a killed one loses
LAYOUT = "each person has a folder with their photos in it, SOURCE/NAME/photo.jpg"


def prepare_folder(source: Path, destination: Path, *, workers: int = 0, ray: str = "") -> ManifestSummary:
    """Check, split and caption the photos in `source`, then write `destination`/people.jsonl and its report.json atomically.

    source: contains a folder for each person; rows are relative to it. workers, ray: as in `run_tasks`. The same source gives
    the same bytes, whoever does the work and however often it was stopped. A stopped run goes on: a photo that was opened is
    opened again only if its file has changed.
    Raises DataError for another layout, a caption that cannot be read, or if no photo can be used, CheckpointError if another
    run is writing to `destination`.
    """
    run = partial(run_tasks, workers=workers, ray=ray)
    with exclusive_folder(destination):
        remove_temporary_manifest(destination)
        outputs = {os.path.realpath(path) for path in (destination, destination / MANIFEST_FILE, destination / REPORT_FILE)}
        _require_no_person(destination, source)
        entries = SourceEntries(source, outputs)
        with PhotoJournal(destination / JOURNAL_FILE, _made_by(source)) as journal:
            _find_photos(run, entries, journal)
            _open_photos(run, source, journal)
            with writing_manifest(destination) as writer:
                notes = Notes(entries.num_loose)
                _write_people(journal, writer, notes)
                if not writer.num_photos:
                    raise _no_usable_photo(entries, writer)
                return writer.finish(notes.texts())


def _require_no_person(destination: Path, source: Path) -> None:
    """Raises DataError if the destination is a person's folder of the source, who would be left out without a word."""
    if os.path.dirname(os.path.realpath(destination)) != os.path.realpath(source):  # noqa: PTH120 - as `SourceEntries` does
        return
    outputs = (MANIFEST_FILE, REPORT_FILE)
    others = sorted(name for name in list_entries(destination) if name not in outputs and not name.startswith(JOURNAL_FILE))
    if others:
        found = f"{destination} is in {source} and holds {others[0]}, as a person's folder does"
        raise DataError(found, "a folder that holds no person is needed", "Choose another -o")


def _made_by(source: Path) -> str:
    """What a journal is of, besides the files themselves: photos are decoded by Pillow."""
    return ascii((os.path.realpath(source), version("tenth"), PIL.__version__))


class SourceEntries:
    """The names of the people's folders in a folder, read as they are needed; both counts are complete at the end.

    outputs: real paths of what is written, which may lie there. Raises DataError if the folder cannot be read.
    """

    def __init__(self, source: Path, outputs: set[str]) -> None:
        self.source, self.num_folders, self.num_loose = source, 0, 0
        real = os.path.realpath(source)
        self._outputs, self._output_names = (
            outputs,
            {name for path in outputs for folder, name in [os.path.split(path)] if folder == real},
        )
        with self._explained():
            self._entries = os.scandir(source)

    def __iter__(self) -> Iterator[str]:
        with self._explained(), self._entries as entries:
            for entry in entries:
                if entry.name.startswith(".") or is_system_file(entry.name) or self._is_output(entry):
                    continue
                # No question to the disk, but for a link; one to itself is no folder.
                is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()  # noqa: PTH112 - never raises
                self.num_folders += is_folder
                self.num_loose += not is_folder
                if is_folder:
                    yield entry.name

    def _is_output(self, entry: os.DirEntry[str]) -> bool:
        return entry.name in self._output_names or (entry.is_symlink() and os.path.realpath(entry.path) in self._outputs)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            found = "is a file" if isinstance(error, NotADirectoryError) else reason(error)
            action = f"Give the folder in which {LAYOUT}; unpack an archive first"
            raise DataError(f"{self.source} {found}", "a folder of people is needed", action) from error


def _find_photos(run: Run, entries: SourceEntries, journal: PhotoJournal) -> None:
    """Note all folders and what is in them. Captions that cannot be read are told all at once, before a photo is opened."""
    problems: list[str] = []
    names = iter(entries)
    tasks = iter(lambda: tuple(islice(names, FOLDERS_PER_TASK)), ())
    reader = partial(make_folder_reader, entries.source.absolute())
    with closing(run(reader, tasks)) as outcomes, tqdm(desc="folders", file=sys.stderr, delay=2, disable=None) as bar:
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
            journal.add(outcome.result)
            problems += [problem for folder in outcome.result for problem in folder.problems]
            bar.update(len(outcome.task))
    journal.remove_what_is_gone()

    if not entries.num_folders:
        found = (
            f"{entries.source} has {pluralize(entries.num_loose, 'file')} and no folder"
            if entries.num_loose
            else f"{entries.source} is empty"
        )
        raise DataError(found, LAYOUT, "Move the photos of each person into a folder of their own")
    if problems:
        raise caption_error(abbreviate(sorted(problems, key=natural_sort_key)))


def _open_photos(run: Run, source: Path, journal: PhotoJournal) -> None:
    """Open what the journal does not have yet. A photo that ends the workers, or shows a fault of ours, costs itself alone."""
    opener = partial(make_photo_opener, source.absolute())
    failed: list[tuple[str, str]] = []
    with tqdm(desc="photos", total=journal.count_unopened(), file=sys.stderr, delay=2, disable=None) as bar:
        with closing(run(opener, journal.unopened(PHOTOS_PER_TASK))) as outcomes:
            for outcome in outcomes:
                if outcome.result is None:
                    failed += outcome.task
                else:
                    journal.note(outcome.task, outcome.result)
                    bar.update(len(outcome.task))
        with closing(run(opener, ((photo,) for photo in failed))) as outcomes:
            for outcome in outcomes:
                journal.note(outcome.task, outcome.result or [RefusedPhoto("failed", str(outcome.error))])
                bar.update()


@dataclass(frozen=True)
class Copies:
    """Which of the opened photos, in order, show the same picture. Of each (N,).

    originals: as of `find_originals`. strangers: of an original, the first copy that another person has, else -1.
    """

    ids: Indices
    persons: npt.NDArray[np.int32]
    originals: Indices
    strangers: Indices

    def other(self, index: int) -> tuple[int, bool]:
        """(id of the photo for which this one is dropped, whether another person has it); (-1, False) if it is kept."""
        original = self.originals[index]
        if self.strangers[original] >= 0:
            same_person = self.persons[original] == self.persons[index]
            return int(self.ids[self.strangers[original] if same_person else original]), True
        return (-1, False) if original == index else (int(self.ids[original]), False)


def _find_copies(journal: PhotoJournal) -> Copies:
    hashes, ids, persons = journal.opened()
    originals = find_originals(hashes)
    strangers = np.full(len(ids), -1)
    others = np.flatnonzero(persons != persons[originals])[::-1]  # so that the first one is set last
    strangers[originals[others]] = others
    return Copies(ids, persons, originals, strangers)


def _write_people(journal: PhotoJournal, writer: ManifestWriter, notes: Notes) -> None:
    """Rows and dropped files, person by person."""
    copies, index = _find_copies(journal), 0
    by_person = groupby(journal.photos(), key=lambda photo: photo.person)
    person, photos = next(by_person, ("", iter(())))
    for folder in journal.folders():
        notes.add_folder(folder)
        if folder.unreadable:
            found = f"{folder.name} {folder.unreadable}; a folder that can be read is needed. Check its permissions"
            writer.drop(DroppedPhoto(folder.name, folder.name, "unreadable-folder", found))
        count = 0
        if folder.name == person:
            for photo in photos:
                dropped = _dropped(photo, *copies.other(index), journal) if photo.refused is None else _refused(photo)
                index += photo.refused is None
                if dropped:
                    writer.drop(dropped)
                    continue
                writer.add(_manifest_entry(photo))
                notes.add_photo(photo)
                count += 1
            person, photos = next(by_person, ("", iter(())))
        notes.add_person(folder.name, count)


def _refused(photo: JournalPhoto) -> DroppedPhoto:
    assert photo.refused is not None
    return DroppedPhoto(photo.path, photo.person, photo.refused.code, photo.refused.reason)


def _dropped(photo: JournalPhoto, other_id: int, of_two: bool, journal: PhotoJournal) -> DroppedPhoto | None:
    """A photo that two people have is dropped for both: nobody can tell whose it is. Of one person's copies the first stays."""
    if other_id < 0:
        return None
    other = journal.photo(other_id)
    if not of_two:
        return DroppedPhoto(photo.path, photo.person, "copy", f"the same picture as {other.path}", other.path)
    what = "photo" if photo.digest == other.digest else "picture"
    found = f"the same {what} is {other.path}, and whose it is cannot be told; keep the right one"
    return DroppedPhoto(photo.path, photo.person, "of-two-people", found, other.path)


def _no_usable_photo(entries: SourceEntries, writer: ManifestWriter) -> DataError:
    first = (f"{photo.file}: {photo.reason.rstrip('.')}" for photo in writer.dropped)
    reasons = abbreviate(first, count=writer.num_dropped) or "they are empty"
    found = f"{entries.source} has no usable photo in its {pluralize(entries.num_folders, 'folder')} ({reasons})"
    return DataError(found, LAYOUT, "Give the folder that holds the people's folders, and mend or add photos")


def _manifest_entry(photo: JournalPhoto) -> ManifestEntry:
    variants, split = repeat_captions(photo.captions), split_by_name(photo.person)
    return ManifestEntry(photo.path, photo.person, split, fold_of(photo.person), variants[0], variants, photo.digest)
