"""Photos of one person from folders and files: which there are, in which order, and what each is called."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tenth.core.errors import DataError
from tenth.core.files.reading import reason, without_system_files
from tenth.core.wording import did_you_mean, printable

IDENTITY_SUFFIX = ".safetensors"  # of an identity file


def photo_entries(sources: Sequence[Path], *, as_given: bool = False) -> dict[Path, str]:
    """Every entry of the folders and every file, in the order of their names, '2' before '10', and what each is called.

    as_given: in the order of the sources, as a saved person's photos are, whose names say nothing.
    Called by the name, or by the path where two have one name. So the files of a folder are the folder.
    Raises DataError for what does not exist, an identity file among them, or a file or folder that is given twice.
    """
    action = "Give photos of one person, or a folder of them"
    if not sources:
        raise DataError("no photo is given", "a folder of photos, or files, are needed", action)
    entries, known = dict[Path, str](), set[str]()
    for source in sources:
        if not os.path.lexists(source):  # also a name that no file can have
            needed = "a photo or a folder of photos is needed"
            raise DataError(f"{source} does not exist", needed, _nearest(source) + action)
        for path in folder_entries(source, "a folder of photos is needed", action) if source.is_dir() else [source]:
            if path.suffix == IDENTITY_SUFFIX and path == source and path.is_file():
                raise DataError(
                    f"{path} is an identity file, among {len(sources)}", "photos, or one identity file, are needed", action
                )
            if (resolved := os.path.realpath(path)) in known:  # which takes a link that leads to itself
                raise DataError(f"{path} is given twice", "each photo counts once", "Leave out one of the two")
            known.add(resolved)
            entries[path] = path.name
    counts = Counter(entries.values())
    named = {path: name if counts[name] == 1 else str(path) for path, name in entries.items()}
    return (
        named if as_given else dict(sorted(named.items(), key=lambda entry: (natural_sort_key(entry[0].name), str(entry[0]))))
    )


def folder_entries(folder: Path, needed: str, action: str) -> list[Path]:
    """What is in a folder, without system files, '2' before '10'. Raises DataError with `needed` and `action`."""
    try:
        return sorted(without_system_files(folder, folder.iterdir()), key=lambda path: natural_sort_key(path.name))
    except OSError as error:
        found = "is a file" if isinstance(error, NotADirectoryError) else reason(error)
        raise DataError(f"{folder} {found}", needed, action) from error


def natural_sort_key(name: str) -> str:
    """Sort key that ignores case and compares numbers by value: 'IMG_2' before 'IMG_10'. `name_of_key` is its name again.

    Text ends with a zero, which no name has; a number begins with the count of its digits. A text, because a million of lists
    take five times the memory, and a database sorts them too.
    """
    parts = re.split(r"(\d+)", name.casefold())
    parts[1::2] = [chr(len(digits)) + digits for digits in map(str, map(int, parts[1::2]))]
    parts[0::2] = [f"{text}\0" for text in parts[0::2]]
    return f"{''.join(parts)}\0{name}"


def name_of_key(key: str) -> str:
    """The name of which this is the `natural_sort_key`."""
    return key.rpartition("\0")[2]


def person_name(sources: Sequence[Path]) -> str:
    """What the person of these photos is called: the folder's name, or the first file's without its ending."""
    first = sources[0].resolve()
    return first.name if first.is_dir() else first.stem


def _nearest(path: Path) -> str:
    """'Did you mean X? ' of what is beside a path that does not exist."""
    names = [each.name for each in path.parent.iterdir()] if os.path.isdir(path.parent) else []  # noqa: PTH112 - which also takes a name that no file can have
    return printable(did_you_mean(path.name, names))
