"""What a person's photos led to in folders of the user's: images of `tenth generate` and `tenth demo`, and identity files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenth.core.errors import DataError, IdentityError
from tenth.core.files.claims import exclusive_folder, list_entries, remove_temporary
from tenth.core.files.png_metadata import read_sample
from tenth.core.files.reading import UnreadableError, read_json
from tenth.core.files.writing import explain_os_errors
from tenth.core.run_record import CANDIDATES_FOLDER, PROGRESS_FILE, RECORD_FILE, SHEET_FILE
from tenth.data.photo_sources import IDENTITY_SUFFIX
from tenth.methods.identity_file import read_identity_metadata

RUN_KINDS = ("generate", "demo")
NUMBERED_IMAGE = re.compile(r"\d{4,}\.png")


@dataclass(frozen=True)
class Output:
    """images: of a run of a person in a folder. records: what else goes, the record last: it says whose the images are."""

    folder: Path
    images: tuple[Path, ...] = ()
    records: tuple[Path, ...] = ()

    def remove(self) -> None:
        """Remove the files, and folders that are empty then. Raises CheckpointError while a run writes there."""
        if not self.folder.is_dir():
            return
        with exclusive_folder(self.folder), explain_os_errors(self.folder):
            remove_temporary(self.folder)
            for path in (*self.images, *self.records):
                path.unlink(missing_ok=True)
            for folder in sorted({path.parent for path in self.images} - {self.folder}):
                with suppress(OSError):
                    folder.rmdir()  # succeeds only while it is empty
        with suppress(OSError):
            self.folder.rmdir()


def find_outputs(directory: Path, name: str, digests: Collection[str], without: Collection[Path] = ()) -> Iterator[Output]:
    """Runs below a folder whose record names one of the photos, identity files that do, and empty folders called NAME-1, say.

    digests: sha256 of the photos' files. without: folders that are not searched. Raises DataError if there is no such folder.
    """
    wanted = set(digests)
    for folder, folders, files in walk_folders(directory, without):
        if not files and not folders and re.fullmatch(rf"{re.escape(name)}-\d+", folder.name):
            yield Output(folder)  # of a run whose files were just removed
        for path in (folder / file for file in files):
            if path.suffix == IDENTITY_SUFFIX and wanted.intersection(_photos_of_identity(path)):
                yield Output(folder, records=(path,))
        records = [folder / each for each in (PROGRESS_FILE, RECORD_FILE) if each in files]
        if any(wanted.intersection(_photos_of_run(path)) for path in records):
            sheet = [folder / SHEET_FILE] if SHEET_FILE in files else []
            yield Output(folder, tuple(_images(folder)), (*sheet, *records))


def walk_folders(directory: Path, without: Collection[Path]) -> Iterator[tuple[Path, list[str], list[str]]]:
    """A folder and those below it, each with the names of its folders and files. Links are not followed.

    without: folders that are passed over. Raises DataError if there is no such folder.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is not a folder", "a folder in which images may be is needed", "Check the path")
    skipped = {path.resolve() for path in without}
    for root, folders, files in os.walk(directory):
        yield Path(root), folders, files
        folders[:] = [each for each in folders if (Path(root) / each).resolve() not in skipped]


def _images(folder: Path) -> Iterator[Path]:
    """The images of a run: its own, and those in folders in it that are no runs themselves."""
    names = [folder / name for name in list_entries(folder)]
    inner = [path for path in names if path.is_dir() and not path.is_symlink() and not (path / RECORD_FILE).exists()]
    for path in (*names, *(each / name for each in inner for name in list_entries(each))):
        numbered = NUMBERED_IMAGE.fullmatch(path.name) and path.parent.name in (folder.name, CANDIDATES_FOLDER)
        if path.suffix == ".png" and path.name != SHEET_FILE and path.is_file() and (numbered or _is_ours(path)):
            yield path


def _is_ours(path: Path) -> bool:
    try:
        return bool(read_sample(path))
    except DataError:
        return False


def _photos_of_run(path: Path) -> list[str]:
    try:
        record: Any = read_json(path)
    except (OSError, UnreadableError):
        return []
    settings = record.get("settings") if isinstance(record, dict) and record.get("kind") in RUN_KINDS else None
    photos = settings.get("photos") if isinstance(settings, dict) else None
    return [photo for photo in photos if isinstance(photo, str)] if isinstance(photos, list) else []


def _photos_of_identity(path: Path) -> tuple[str, ...]:
    try:
        return read_identity_metadata(path).photos
    except (IdentityError, OSError):
        return ()
