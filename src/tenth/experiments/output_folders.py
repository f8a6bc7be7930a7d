"""Where commands may write, so that nothing of the user's is lost. Light imports: it is checked first."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from tenth.core.errors import CheckpointError, TenthError
from tenth.core.files.claims import list_entries
from tenth.core.files.reading import UnreadableError, read_json, reason
from tenth.core.files.writing import write_text
from tenth.core.run_record import CANDIDATES_FOLDER, PROGRESS_FILE, RECORD_FILE, SHEET_FILE, read_record
from tenth.core.wording import abbreviate, pluralize, shorten

DEFAULT_FOLDER = Path("out")  # of images, where none is given: a folder in it for each run
SETTINGS_FILE = "settings.json"  # in an experiment's folder: what it was started with
TRAINING_RECIPE = "recipe.toml"  # the copy in a training's folder


def ensure_writable_folder(folder: Path, settings: Mapping[str, Any] | None = None) -> None:
    """Raises CheckpointError unless the folder is new or empty, or holds only a run of these settings (None: of any).

    A run that has not generated anything yet leaves the folder as if it were empty.
    """
    ensure_writable_path(folder)
    entries = list_entries(folder) - {PROGRESS_FILE}
    if not entries:
        return
    earlier = read_run_settings(folder, "generate")
    if earlier is None:
        raise folder_in_use(folder, pluralize(len(entries), "file or folder", "files or folders"))
    seeds = earlier.get("seeds")
    own = {RECORD_FILE, SHEET_FILE, *image_names(len(seeds) if isinstance(seeds, list) else 0)}
    if foreign := sorted(entries - own - ({CANDIDATES_FOLDER} if "keep_best" in earlier else set())):
        raise folder_in_use(folder, f"{foreign[0]}, which is not of a run")
    if settings is not None and earlier != settings:
        raise folder_in_use(folder, "the images of another run")


def next_folder(name: str, settings: Mapping[str, Any]) -> Path:
    """out/NAME-N for images of the person of this name.

    N is the first number that is free, or of an unfinished run of these settings, which then goes on.
    """
    for number in count(1):
        folder = DEFAULT_FOLDER / f"{name or 'images'}-{number}"
        unfinished = read_progress(folder, "generate").get("settings") == settings
        if not os.path.lexists(folder) or unfinished:
            return folder
    raise AssertionError  # numbers do not end


def ensure_writable_path(folder: Path) -> None:
    """Raises CheckpointError if there cannot be such a folder, since it or one above it is a file."""
    nearest = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if nearest.exists() and not nearest.is_dir():
        raise CheckpointError(f"{nearest} is a file", "a folder is needed", "Choose another -o")


def read_run_settings(folder: Path, kind: str) -> dict[str, Any] | None:
    """Settings of the folder's run of a kind, finished or not. None if it is of another kind, damaged or missing."""
    record_file = folder / RECORD_FILE
    try:
        record = read_record(record_file, command=kind) if record_file.exists() else read_progress(folder, kind)
    except TenthError:
        return None
    settings = record.get("settings")
    return settings if isinstance(settings, dict) else None


def read_progress(folder: Path, kind: str) -> dict[str, Any]:
    """The contents of PROGRESS_FILE, empty if it is of another kind, damaged or missing."""
    try:
        progress = read_json(folder / PROGRESS_FILE)
    except (OSError, UnreadableError):
        return {}
    return progress if isinstance(progress, dict) and progress.get("kind") == kind else {}


def image_names(count: int) -> list[str]:
    """0000.png, 0001.png, ..."""
    return [f"{number:04d}.png" for number in range(count)]


def ensure_writable_identity(path: Path, **expected: object) -> None:
    """Raises CheckpointError if `path` exists and is not an identity of these, but of other photos, say.

    expected: those known of an identity's method, model, adapter and photos.
    """
    if not path.exists():
        return
    from tenth.methods.identity_file import load_identity

    try:
        earlier = load_identity(path)
    except TenthError:
        raise _foreign_file(path, "is not an identity") from None
    if any(getattr(earlier, key) != value for key, value in expected.items()):
        raise _foreign_file(path, "is an identity of another method, model or other photos")


def ensure_writable_training(output: Path, *, resume: bool, table: Mapping[str, Any] | None = None) -> None:
    """Raises CheckpointError if the folder is in use, has nothing to resume, or was started with other settings."""
    ensure_writable_path(output)
    if list_entries(output) and not resume:
        action = "Add --resume to go on, or choose another -o"
        raise CheckpointError(f"{output} is not empty", "training starts in an empty folder", action)
    if resume and not (output / TRAINING_RECIPE).is_file():
        found = f"{output} has no {TRAINING_RECIPE}, so there is nothing to resume"
        raise CheckpointError(found, "a folder of `tenth train` is needed", "Leave out --resume")
    from tenth.core.config import read_toml

    if resume and table is not None and read_toml(output / TRAINING_RECIPE) != table:
        needed = f"the recipe must be as in its {TRAINING_RECIPE}"
        raise CheckpointError(f"{output} was begun with other settings", needed, "Choose another -o, or that recipe")


def ensure_writable_experiment(output: Path, settings: Mapping[str, Any], kind: str = "experiment") -> None:
    """Claim a new or empty folder for an experiment of these settings, by writing SETTINGS_FILE into it.

    kind: what it is called. Raises CheckpointError if the folder holds one of other settings, or anything else.
    """
    path, action = output / SETTINGS_FILE, "Choose another folder"
    if path.is_file():
        needed = f"the settings of an {kind} are needed"
        try:
            earlier = read_json(path)
        except (OSError, UnreadableError) as problem:
            raise CheckpointError(f"{path} {reason(problem)}", needed, action) from problem
        if not isinstance(earlier, dict):
            raise CheckpointError(f"{path} is no table", needed, action)
        changed = sorted(key for key in {*earlier, *settings} if earlier.get(key) != settings.get(key))
        if changed:
            values = [f"{key} {shorten(str(earlier.get(key)))}, not {shorten(str(settings.get(key)))}" for key in changed]
            found = f"{output} holds an {kind} with other settings: {abbreviate(values, '; ')}"
            raise CheckpointError(found, "the same settings go on", "Give those, or choose another folder")
    elif output.exists() and (not output.is_dir() or list_entries(output)):
        raise CheckpointError(f"{output} is not empty and holds no {kind}", "an empty or new folder is needed", action)
    else:
        write_text(path, json.dumps(settings, indent=1) + "\n")


def folder_in_use(folder: Path, contents_text: str) -> CheckpointError:
    """The error for a folder that holds another run's files or the user's."""
    needed = "an empty or new folder is needed, so that nothing is lost"
    return CheckpointError(f"{folder} holds {contents_text}", needed, "Choose another -o, or empty it")


def _foreign_file(path: Path, problem: str) -> CheckpointError:
    needed = "a new file is needed, so that nothing is lost"
    return CheckpointError(f"{path} exists and {problem}", needed, "Choose another -o, or remove it")
