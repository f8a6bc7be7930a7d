"""run.json: command, settings, environment and results of a run, written atomically."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from tenth.core.errors import DataError
from tenth.core.files.reading import UnreadableError, read_json, reason
from tenth.core.files.writing import write_text

RECORD_FILE = "run.json"
PROGRESS_FILE = ".begun.json"  # in a folder of images of an unfinished run: its kind, settings, and seconds by image
SHEET_FILE = "sheet.png"  # beside it: the contact sheet of its images
CANDIDATES_FOLDER = "candidates"  # beside it: the images of which the best were kept
# Packages that a result can depend on.
LIBRARIES = ("tenth", "torch", "diffusers", "transformers", "safetensors", "numpy", "pillow", "dlib-bin")


def write_record(path: Path, *, command: str, settings: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write `path` as JSON with sorted keys: kind, settings, results, environment, and the time (UTC).

    command: such as "generate". settings, results: may contain dataclasses, paths and tuples, but no person's name and no path
    of a photo: photos are identified by sha256. Raises ValueError for a number that is not finite, TypeError for a type that
    JSON lacks; then nothing is written.
    """
    write_text(path, record_text(command=command, settings=settings, results=results))


def record_text(*, command: str, settings: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """What `write_record` writes. Raises as that."""
    record = {"kind": command, "settings": settings, "results": results, "environment": environment()}
    record["written"] = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps(record, default=_json_default, sort_keys=True, indent=1, allow_nan=False) + "\n"


def read_record(path: Path, *, command: str | Sequence[str]) -> dict[str, Any]:
    """A record of `write_record`. path: the file, or the folder with its run.json. command: or those it may be of.

    Raises DataError if the file is missing, damaged, or a record of another kind.
    """
    path = path / RECORD_FILE if path.is_dir() else path
    commands = [command] if isinstance(command, str) else list(command)
    command = commands[0]
    try:
        record: Any = read_json(path)
    except (OSError, UnreadableError) as problem:
        raise _unusable(path, command, reason(problem)) from problem
    if not isinstance(record, dict) or not all(isinstance(record.get(key), dict) for key in ("settings", "results")):
        raise _unusable(path, command, "is no record of tenth's")
    if record.get("kind") not in commands:
        raise _unusable(path, command, f"is of kind {record.get('kind')!r:.100}")
    return dict(record)


def environment() -> dict[str, Any]:
    """Python, libraries, platform and cores of this machine, without the names of machine and user."""
    return {
        "python": platform.python_version(),
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": num_cores(),
    }


def method_folder_names(methods: Sequence[str]) -> dict[str, str]:
    """A folder name for each method (a name or path): plain characters, unique on any file system."""
    names: dict[str, str] = {}
    for name in methods:
        safe_name = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "method"
        taken = {other.lower() for other in names.values()}
        alternatives = (f"{safe_name}-{number}" for number in range(2, len(methods) + 2))
        names[name] = next(candidate for candidate in (safe_name, *alternatives) if candidate.lower() not in taken)
    return names


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def library_version(name: str) -> str | None:
    """The version of an installed library; None if it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _json_default(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, PurePath):
        return value.as_posix()
    raise TypeError(f"{type(value).__name__} has no place in a record")


def _unusable(path: Path, command: str, found: str) -> DataError:
    return DataError(f"{path} {found}", f"a record that `tenth {command}` wrote is needed", "Check the path")


METHOD_SEPARATOR = "+"  # between two combined methods
GENERIC_NAMES = ("final", "best")  # of folders that `tenth train` writes: the parent's name is added


def short_path_names(settings: Mapping[str, Any]) -> dict[str, str]:
    """A short name for each absolute path in an experiment's settings: its last part, or as many as make it unique.

    Also "." and "~" for this machine's folders that may identify its user. Independent of the working directory otherwise.
    """
    data, methods = settings.get("data"), settings.get("methods")
    values = [*(data.values() if isinstance(data, Mapping) else ()), *(methods if isinstance(methods, list | tuple) else ())]
    recognizers = settings.get("recognizers")
    values += recognizers if isinstance(recognizers, list | tuple) else ()
    values += [settings.get(key) for key in ("clip_model", "model")]
    parts = (part for value in values for part in str(value).split(METHOD_SEPARATOR))
    names = _shortest_unique_names(dict.fromkeys(part for part in parts if PurePath(part).is_absolute()))
    machine_folders = {str(Path.cwd()): ".", str(Path.home()): "~"}
    return names | {folder: name for folder, name in machine_folders.items() if len(PurePath(folder).parts) > 1}


def replace_paths(value: Any, names: Mapping[str, str]) -> Any:
    """A JSON value with every path replaced by its short name, also within strings and as a key."""
    if isinstance(value, str):
        for path in sorted(names, key=len, reverse=True):
            value = names[path].join(re.split(rf"{re.escape(path)}(?![\w.-]*\w)", value))
        return value
    if isinstance(value, Mapping):
        return {replace_paths(key, names): replace_paths(inner, names) for key, inner in value.items()}
    return [replace_paths(inner, names) for inner in value] if isinstance(value, list | tuple) else value


def _shortest_unique_names(paths: Iterable[str]) -> dict[str, str]:
    tails = {path: PurePath(path).parts[1:] for path in paths}
    names: dict[str, str] = {}
    for path, parts in tails.items():
        min_parts = 2 if parts and parts[-1] in GENERIC_NAMES else 1
        other_paths = [other for each, other in tails.items() if each != path]
        unique_counts = (
            count for count in range(min_parts, len(parts)) if all(other[-count:] != parts[-count:] for other in other_paths)
        )
        names[path] = "/".join(parts[-next(unique_counts, len(parts)) :]) or "folder"
    return names
