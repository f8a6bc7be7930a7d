"""Where commands refuse to write, so that nothing of the user's is ever lost. Imports nothing heavy: it is said at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tenth.core.claims import contents
from tenth.core.config import read_toml
from tenth.core.errors import CheckpointError, TenthError
from tenth.core.file_reading import UnreadableError, read_json
from tenth.core.run_record import RECORD, read_record
from tenth.core.wording import counted

BEGUN = ".begun.json"  # in a folder of pictures while they are drawn: kind and settings of the run, and seconds by picture
TRAINING_RECIPE = "recipe.toml"  # the copy in a training's folder


def claim_folder(folder: Path, settings: Mapping[str, Any] | None = None) -> None:
    """Raises CheckpointError unless the folder is new or empty, or holds one run of these settings (None: of any) alone.

    A run that was begun and has drawn nothing yet leaves the folder as if it were empty.
    """
    claim_place(folder)
    entries = contents(folder) - {BEGUN}
    if not entries:
        return
    before = settings_in(folder, "generate")
    if before is None:
        raise in_use(folder, counted(len(entries), "file or folder", "files or folders"))
    seeds = before.get("seeds")
    if others := sorted(entries - {RECORD, *image_names(len(seeds) if isinstance(seeds, list) else 0)}):
        raise in_use(folder, f"{others[0]}, which is not of a run")
    if settings is not None and before != settings:
        raise in_use(folder, "the images of another run")


def claim_place(folder: Path) -> None:
    """Raises CheckpointError where a folder cannot be, since a file has its name or that of a folder above it."""
    nearest = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if nearest.exists() and not nearest.is_dir():
        raise CheckpointError(f"{nearest} is a file", "a folder for the images is needed", "Choose another -o")


def settings_in(folder: Path, kind: str) -> dict[str, Any] | None:
    """Settings of the run of a kind that a folder holds, done or begun. None if it is of another kind, damaged or not there."""
    try:
        record = read_record(folder / RECORD, kind=kind) if (folder / RECORD).exists() else read_begun(folder, kind)
    except TenthError:
        return None
    settings = record.get("settings")
    return settings if isinstance(settings, dict) else None


def read_begun(folder: Path, kind: str) -> dict[str, Any]:
    """What BEGUN says, empty if it is of another kind, damaged or not there."""
    try:
        begun = read_json(folder / BEGUN)
    except (OSError, UnreadableError):
        return {}
    return begun if isinstance(begun, dict) and begun.get("kind") == kind else {}


def image_names(count: int) -> list[str]:
    """0000.png, 0001.png, ..."""
    return [f"{number:04d}.png" for number in range(count)]


def claim_identity(path: Path, **wanted: object) -> None:
    """Raises CheckpointError if `path` exists and is not an identity of these: of other photos, say.

    wanted: as far as it is known; any of an identity's method, model, adapter and photos.
    """
    if not path.exists():
        return
    from tenth.methods.identity_file import load_identity

    try:
        earlier = load_identity(path)
    except TenthError:
        raise _other_file(path, "is not an identity") from None
    if any(getattr(earlier, key) != value for key, value in wanted.items()):
        raise _other_file(path, "is an identity of another method, model or other photos")


def claim_training(output: Path, *, resume: bool, table: Mapping[str, Any] | None = None) -> None:
    """Raises CheckpointError if the folder is in use, has nothing to resume, or was begun with other settings than `table`."""
    if output.exists() and not output.is_dir():
        raise CheckpointError(f"{output} is a file", "a folder for the training is needed", "Choose another -o")
    if contents(output) and not resume:
        raise CheckpointError(
            f"{output} is not empty", "training starts in an empty folder", "Add --resume to go on, or choose another -o"
        )
    if resume and not (output / TRAINING_RECIPE).is_file():
        raise CheckpointError(
            f"{output} has no {TRAINING_RECIPE}, so there is nothing to resume",
            "a folder of `tenth train` is needed",
            "Leave out --resume",
        )
    if resume and table is not None and read_toml(output / TRAINING_RECIPE) != table:
        raise CheckpointError(
            f"{output} was begun with other settings",
            f"the recipe must be as in its {TRAINING_RECIPE}",
            "Choose another -o, or that recipe",
        )


def in_use(folder: Path, found: str) -> CheckpointError:
    """The error for a folder of another run's or of the user's."""
    return CheckpointError(
        f"{folder} holds {found}", "an empty or new folder is needed, so that nothing is lost", "Choose another -o, or empty it"
    )


def _other_file(path: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{path} exists and {found}", "a new file is needed, so that nothing is lost", "Choose another -o, or remove it"
    )
